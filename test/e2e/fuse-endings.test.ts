/** How a mount ends, what is kept when it does, what it says when it cannot begin, and what it does while its node is away. */
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, rmdir, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { endMounts, isMounted, mountTree, noFuseBecause, shell } from './mounted.ts'
import { startNode, temporaryFolder } from './run-nine.ts'
import type { NodeProcess } from './run-nine.ts'

/** Holds files open, says so, waits for a line, and says what became of them. */
const holding = `
import errno, os, sys
os.chdir(sys.argv[1])
reader = os.open('log', os.O_RDONLY)
writer = os.open('log', os.O_WRONLY | os.O_APPEND)
other = os.open('other', os.O_RDONLY)
loser = os.open('lost', os.O_WRONLY | os.O_CREAT)
os.write(loser, b'never synced')
print('open', flush=True)
sys.stdin.readline()
os.write(writer, b'after')
os.fsync(writer)
read = os.read(reader, 64).decode()
def kind(act):
    try:
        return act()
    except OSError as error:
        return errno.errorcode[error.errno]
lost = kind(lambda: os.fsync(loser))
print(' '.join([*read.split(), str(lost), str(kind(lambda: os.read(other, 64)))]), flush=True)
`
const examples = join(import.meta.dirname, '..', '..', 'examples')
const why = noFuseBecause()

describe.skipIf(why !== undefined)(`the end of a mount through FUSE${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
  let node: NodeProcess
  /** The node once more, on the data it left. */
  let next: NodeProcess | undefined

  beforeEach(async () => {
    node = await startNode()
    await node.ok(['write', '/data/a', 'first'])
  })

  afterEach(async () => {
    await endMounts()
    await next?.kill()
    next = undefined
    await node.kill()
  })

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s unmounts, with files open too, and publishes what they wrote', async (signal) => {
    const mount = await mountTree(node, '/data')
    const fd = openSync(join(mount.dir, 'open'), 'w')
    writeSync(fd, 'not yet closed')
    mount.process.kill(signal)
    expect(await mount.ended).toMatchObject({ code: 0, stderr: '' })
    expect(isMounted(mount.dir)).toBe(false)
    expect(await node.ok(['cat', '/data/open'])).toBe('not yet closed')
    closeSyncQuietly(fd)
    await rmdir(mount.dir)
  })

  it('ends when somebody unmounts it', async () => {
    const mount = await mountTree(node, '/data')
    await shell(`fusermount -u ${mount.dir}`)
    expect(await mount.ended).toMatchObject({ code: 0, stderr: '' })
    await rmdir(mount.dir)
  })

  it('leaves a mount to take away when it is killed, says so, and mounts again', async () => {
    const mount = await mountTree(node, '/data')
    await writeFile(join(mount.dir, 'kept'), 'kept')
    mount.process.kill('SIGKILL')
    await mount.ended
    await expect(readdir(mount.dir)).rejects.toThrow('ENOTCONN')
    const { code, stderr } = await node.nine(['fuse', '/data', mount.dir])
    expect(stderr).toContain(`take it away with: fusermount -u ${mount.dir}`)
    expect(code).toBe(exitCodeOf('unavailable'))
    await shell(`fusermount -u ${mount.dir}`)
    const again = await mountTree(node, '/data', [], mount.dir)
    expect(await readFile(join(mount.dir, 'kept'), 'utf8')).toBe('kept')
    await again.stop()
    await rmdir(mount.dir)
  })

  it('has on disk what close and fsync answered, whatever becomes of the node', async () => {
    const mount = await mountTree(node, '/data')
    const data = join(node.folder, 'data')
    await writeFile(join(mount.dir, 'closed'), 'closed')
    const fd = openSync(join(mount.dir, 'synced'), 'w')
    writeSync(fd, 'synced')
    fsyncSync(fd)
    // One close of a file that stays open by another number.
    const shared = spawn('/bin/sh', ['-c', 'exec 3>dup; echo -n duplicate >&3; echo done; read line'], { cwd: mount.dir, stdio: 'pipe' })
    await new Promise((resolve) => shared.stdout.once('data', resolve))
    node.process.kill('SIGKILL')
    await new Promise((resolve) => node.process.once('close', resolve))
    next = await startNode([], data)
    expect(await next.ok(['cat', '/data/closed', '/data/synced', '/data/dup'])).toBe('closedsyncedduplicate')
    shared.kill()
    closeSyncQuietly(fd)
    await mount.stop()
    await rmdir(mount.dir)
  })

  it('goes on with open files after its node was away, and tells who lost what was not synced', async () => {
    const mount = await mountTree(node, '/data')
    await writeFile(join(mount.dir, 'log'), 'before\n')
    // The files are another process's: our own would be flushed when we start the next node, which would wait for itself.
    await writeFile(join(mount.dir, 'other'), 'one file')
    const holder = spawn('python3', ['-c', holding, mount.dir], { stdio: ['pipe', 'pipe', 'inherit'] })
    const said = createInterface({ input: holder.stdout })[Symbol.asyncIterator]()
    expect((await said.next()).value).toBe('open')
    const data = join(node.folder, 'data')
    const { grpc } = node.ready
    node.process.kill('SIGKILL')
    await new Promise((resolve) => node.process.once('close', resolve))
    next = await startNode(['--grpc', grpc], data)
    await next.ok(['rm', '/data/other'])
    await next.ok(['write', '/data/other', 'another file'])
    holder.stdin.end('\n')
    expect((await said.next()).value).toBe('before after EIO ESTALE')
    expect(await next.ok(['cat', '/data/log'])).toBe('before\nafter')
    expect(await mount.stop()).toMatchObject({ code: 0, stderr: '' })
    await rmdir(mount.dir)
  })

  it('answers while its node hangs or is gone, by the deadline, and stays', async () => {
    const mount = await mountTree(node, '/data', ['--timeout', '500ms'])
    node.process.kill('SIGSTOP')
    const begun = performance.now()
    await expect(stat(join(mount.dir, 'a'))).rejects.toThrow('ETIMEDOUT')
    expect(performance.now() - begun).toBeLessThan(5_000)
    node.process.kill('SIGCONT')
    expect(await readFile(join(mount.dir, 'a'), 'utf8')).toBe('first')
    node.process.kill('SIGKILL')
    await new Promise((resolve) => node.process.once('close', resolve))
    await expect(stat(join(mount.dir, 'a'))).rejects.toThrow(/EHOSTUNREACH|ETIMEDOUT/)
    const { grpc } = node.ready
    next = await startNode(['--grpc', grpc], join(node.folder, 'data'))
    await next.ok(['stat', '/data/a'])
    expect(isMounted(mount.dir)).toBe(true)
    expect(await mount.stop()).toMatchObject({ code: 0, stderr: '' })
    await rmdir(mount.dir)
  })

  it('read-only refuses every change, and rights decide as everywhere', async () => {
    const mount = await mountTree(node, '/data', ['--read-only'])
    expect(await readFile(join(mount.dir, 'a'), 'utf8')).toBe('first')
    await expect(writeFile(join(mount.dir, 'b'), 'x')).rejects.toThrow('EROFS')
    await mount.stop()
    await writeFile(join(node.folder, 'ann'), await node.ok(['token', 'create', 'ann']))
    await node.ok(['rights', '/data', 'ann=read,list'])
    const anns = await mountTree(node, '/data', ['--token-file', join(node.folder, 'ann')], mount.dir)
    expect(await readFile(join(mount.dir, 'a'), 'utf8')).toBe('first')
    await expect(writeFile(join(mount.dir, 'a'), 'x')).rejects.toThrow('EACCES')
    await expect(rm(join(mount.dir, 'a'))).rejects.toThrow('EACCES')
    const fd = openSync(join(mount.dir, 'a'), 'r')
    await expect(rm(join(mount.dir, 'a'))).rejects.toThrow('EACCES')
    closeSync(fd)
    expect((await stat(join(mount.dir, 'a'))).uid).toBe(65_534)
    expect(await anns.stop()).toMatchObject({ code: 0, stderr: '' })
    await rmdir(mount.dir)
  })

  it.skipIf(process.getuid?.() !== 0)('is for its user alone, or with --allow-other for others within the modes of files', async () => {
    const asNobody = (line: string): string =>
      spawnSync('setpriv', ['--reuid=65534', '--clear-groups', '/bin/sh', '-c', line]).stdout.toString()
    const mount = await mountTree(node, '/data')
    expect(asNobody(`cat ${mount.dir}/a 2>/dev/null || echo refused`)).toBe('refused\n')
    await mount.stop()
    const open = await mountTree(node, '/data', ['--allow-other'], mount.dir)
    await writeFile(join(mount.dir, 'private'), 'private', { mode: 0o600 })
    expect(asNobody(`cat ${mount.dir}/a; cat ${mount.dir}/private 2>/dev/null || echo refused`)).toBe('firstrefused\n')
    expect(asNobody(`echo x 2>/dev/null > ${mount.dir}/a || echo refused`)).toBe('refused\n')
    expect(await open.stop()).toMatchObject({ code: 0, stderr: '' })
    await rmdir(mount.dir)
  })

  it('shows services: values, commands, and with --direct-io streams', async () => {
    const [counter, clock] = await Promise.all([serving(node, 'counter'), serving(node, 'clock')])
    const mount = await mountTree(node, '/')
    expect(JSON.parse(await readFile(join(mount.dir, 'sys/status'), 'utf8'))).toMatchObject({ name: 'local' })
    const whoami = await node.ok(['cat', '/sys/whoami'])
    expect(await shell('cat sys/whoami && wc -c < sys/whoami', mount.dir)).toBe(`${whoami}${whoami.length}\n`)
    await shell("echo 'add 5' > svc/counter/ctl", mount.dir)
    expect(await shell('cat svc/counter/value', mount.dir)).toBe('5\n')
    expect(await shell('grep -c . svc/clock/now', mount.dir)).toBe('1\n')
    expect(await mount.stop()).toMatchObject({ code: 0, stderr: '' })
    const direct = await mountTree(node, '/svc', ['--direct-io'], mount.dir)
    expect((await shell('head -n 2 clock/ticks', mount.dir)).trim().split('\n').length).toBe(2)
    expect(await shell('cat counter/value', mount.dir)).toBe('5\n')
    expect(await direct.stop()).toMatchObject({ code: 0, stderr: '' })
    counter.kill()
    clock.kill()
    await rmdir(mount.dir)
  })
})

/** An example, once it says that it serves. */
async function serving(node: NodeProcess, name: string): Promise<ChildProcess> {
  const env = { ...process.env, NINE_ADDR: node.ready.grpc, NINE_TOKEN_FILE: node.ready.tokenFile }
  const child = spawn(process.execPath, [join(examples, `${name}.mjs`)], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  await new Promise((resolve) => child.stdout.once('data', resolve))
  return child
}

describe.skipIf(why !== undefined)(`a mount that cannot be${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
  it('says why, with the exit code of the kind', async () => {
    const node = await startNode()
    const folder = await temporaryFolder()
    const empty = await mkdtemp(join(tmpdir(), 'ninefold-mount-'))
    await writeFile(join(folder, 'file'), '')
    await mkdir(join(folder, 'full/inside'), { recursive: true })
    await node.ok(['write', '/data/file', 'x'])
    const refused = async (args: string[], env?: Record<string, string>): Promise<string> => {
      const { code, stdout, stderr } = await node.nine(['fuse', ...args], { env })
      const kind = /\[(\w+)\]\n$/.exec(stderr)?.[1] ?? `nothing but ${stdout}${stderr}`
      expect(code).toBe(exitCodeOf(kind as 'invalid'))
      return `${kind}: ${stderr.replace(/^nine: /, '').replace(/ \[\w+\]\n$/, '')}`
    }
    expect(await refused(['/data', join(folder, 'none')])).toBe(`not_found: there is no folder ${join(folder, 'none')} to mount on`)
    expect(await refused(['/data', join(folder, 'file')])).toBe(`not_directory: ${join(folder, 'file')} is not a folder to mount on`)
    expect(await refused(['/data', join(folder, 'full')])).toMatch(/^not_empty: /)
    expect(await refused(['/data/none', empty])).toMatch(/^not_found: /)
    expect(await refused(['/data/file', empty])).toBe('not_directory: /data/file is not a directory')
    expect(await refused(['/data', empty], { PATH: folder })).toMatch(/^unsupported: .*no fusermount on PATH: install fuse3/)
    expect(await refused(['--via', '9p', '/data', empty])).toMatch(/^unsupported: .*9P/)
    expect(await refused(['/data', '/proc'])).toMatch(/^exists: \/proc is a mount already/)
    const mount = await mountTree(node, '/data')
    expect(await refused(['/data', mount.dir])).toBe(`exists: ${mount.dir} is a mount already`)
    await mount.stop()
    await node.kill()
    await Promise.all([rmdir(mount.dir), rmdir(empty), rm(folder, { recursive: true })])
  })

  it.skipIf(process.getuid?.() !== 0)('says that libfuse.so.2 cannot be loaded', async () => {
    const empty = await mkdtemp(join(tmpdir(), 'ninefold-mount-'))
    const library = spawnSync('/bin/sh', ['-c', 'ldconfig -p | sed -n "s/.*libfuse.so.2 .*=> //p" | head -1']).stdout.toString().trim()
    const nine = join(import.meta.dirname, '..', '..', 'dist', 'cli', 'nine.js')
    // In a mount namespace of its own the library is empty.
    const { status, stderr } = spawnSync('unshare', [
      '-m',
      '/bin/sh',
      '-c',
      `mount --bind /dev/null ${library} && exec ${process.execPath} ${nine} fuse --via fuse /data ${empty}`,
    ])
    expect(stderr.toString()).toContain('libfuse.so.2 cannot be loaded: install libfuse2')
    expect(status).toBe(exitCodeOf('unsupported'))
    await rmdir(empty)
  })
})

/** A file of a mount that is gone can be let go of, not written. */
function closeSyncQuietly(fd: number): void {
  try {
    closeSync(fd)
  } catch {
    // Its mount is gone.
  }
}
