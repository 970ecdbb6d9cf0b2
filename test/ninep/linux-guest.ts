/**
 * A real Linux kernel with its own 9P client: Debian's user-mode-linux, which runs as a process and has this machine's files as its own.
 * It reaches the node's Unix socket over a network of two, in a network namespace that ends with it.
 */
import { execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const kernel = '/usr/bin/linux.uml'
const modules = '/usr/lib/uml/modules'
const host = '10.77.0.1'
const guest = '10.77.0.2'
export const guestPort = 564

/** Why no guest can run here; undefined where one can. */
export function noGuestBecause(): string | undefined {
  if (process.getuid?.() !== 0) return 'it needs root'
  if (!existsSync(kernel)) return 'there is no linux.uml; Debian has it as the package user-mode-linux'
  if (!existsSync('/dev/net/tun')) return 'there is no /dev/net/tun'
  for (const tool of ['/usr/sbin/ip', '/usr/sbin/insmod']) if (!existsSync(tool)) return `there is no ${tool}`
  return undefined
}

/**
 * Boot a kernel, mount the tree behind `socket` at /mnt/tree with `options`, and run `script` (bash) there.
 * @returns what each `step NAME` of the script printed on either output until the next step, by name
 */
export async function runInGuest(folder: string, socket: string, options: string, script: string): Promise<Map<string, string>> {
  const name = `nine-${process.pid}-${Date.now() % 100_000}`
  const output = join(folder, 'output')
  writeFileSync(join(folder, 'init'), initScript(folder), { mode: 0o755 })
  writeFileSync(join(folder, 'script'), mountScript(options, script))
  writeFileSync(output, '')
  const inside = (...command: string[]): string[] => ['netns', 'exec', name, ...command]
  execFileSync('ip', ['netns', 'add', name])
  let forwarder: ChildProcess | undefined
  try {
    for (const command of [
      ['tuntap', 'add', 'dev', 'tap0', 'mode', 'tap'],
      ['addr', 'add', `${host}/24`, 'dev', 'tap0'],
      ['link', 'set', 'tap0', 'up'],
    ]) {
      execFileSync('ip', inside('ip', ...command))
    }
    forwarder = spawn('ip', inside(process.execPath, '-e', forwarderCode, socket), { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(forwarder.stdout!, 'data')
    const boot = ['rootfstype=hostfs', 'rootflags=/', 'rw', 'mem=512M', `init=${join(folder, 'init')}`, 'eth0=tuntap,tap0']
    const child = spawn('ip', inside(kernel, ...boot, 'con=null', 'con0=null,fd:1'), {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, TMPDIR: folder },
    })
    let console = ''
    child.stdout.on('data', (part: Buffer) => (console += part.toString()))
    await once(child, 'close')
    return stepsOf(readFileSync(output, 'utf8'), console)
  } finally {
    forwarder?.kill()
    execFileSync('ip', ['netns', 'delete', name])
  }
}

/** Says when it listens; each connection is one to the socket. */
const forwarderCode = `
const net = require('node:net')
net.createServer({ noDelay: true }, (from) => {
  const to = net.connect(process.argv[1])
  from.pipe(to).pipe(from)
  for (const socket of [from, to]) socket.on('error', () => from.destroy())
}).listen(${guestPort}, '${host}', () => console.log('listening'))`

function initScript(folder: string): string {
  const version = readdirSync(modules)[0]!
  const loads = ['fs/netfs/netfs', 'fs/fscache/fscache', 'net/9p/9pnet', 'net/9p/9pnet_fd', 'fs/9p/9p']
    .map((module) => `${modules}/${version}/kernel/${module}.ko`)
    .filter((file) => existsSync(file))
  return `#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt
mount -t proc proc /proc
mount -t tmpfs tmp /mnt
${loads.map((file) => `insmod ${file}`).join('\n')}
ip link set lo up
ip addr add ${guest}/24 dev eth0
ip link set eth0 up
bash ${join(folder, 'script')} > ${join(folder, 'output')} 2>&1
echo "### end" >> ${join(folder, 'output')}
halt -f
`
}

function mountScript(options: string, script: string): string {
  return `step() { cd /mnt/tree/work 2> /dev/null; echo "### $1"; }
step mount
mkdir /mnt/tree
mount -t 9p -o trans=tcp,port=${guestPort},${options} ${host} /mnt/tree
mkdir -p /mnt/tree/work
${script}
step umount
cd /
umount /mnt/tree
`
}

function stepsOf(text: string, console: string): Map<string, string> {
  const steps = new Map<string, string>()
  for (const part of text.split(/^### /m).slice(1)) {
    const end = part.indexOf('\n')
    steps.set(part.slice(0, end), part.slice(end + 1).trimEnd())
  }
  if (!steps.has('end')) throw new Error(`the guest did not come to its end:\n${text}\n${console}`)
  return steps
}
