/** How commands end: by Ctrl-C, by --timeout, by a reader who has had enough, with help; and what they leave behind. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { finish, ninePath, runNine, startNode, temporaryFolder } from './run-nine.ts'
import type { NodeProcess } from './run-nine.ts'

let node: NodeProcess
let folder: string

beforeAll(async () => {
  node = await startNode()
  folder = await temporaryFolder()
}, 60_000)

afterAll(async () => {
  await node.kill()
  await rm(folder, { recursive: true, force: true })
})

describe('a node', () => {
  it('that is told to stop a second time ends at once, and has what it acknowledged', async () => {
    const leaving = await startNode()
    let next: NodeProcess | undefined
    try {
      await leaving.ok(['write', '/data/kept', 'kept'])
      // It gets both in one turn: it begins to stop, and cannot have ended when the second comes.
      leaving.process.kill('SIGSTOP')
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGCONT'] as const) leaving.process.kill(signal)
      await once(leaving.process, 'exit')
      expect([130, 143]).toContain(leaving.process.exitCode)
      next = await startNode([], leaving.ready.data)
      expect(await next.ok(['cat', '/data/kept'])).toBe('kept')
    } finally {
      await next?.kill()
      await leaving.kill()
    }
  }, 60_000)
})

describe('Ctrl-C', () => {
  it('ends an import under way, which goes on when it is run again', async () => {
    const from = join(folder, 'many')
    await mkdir(from)
    for (let i = 0; i < 6000; i++) await writeFile(join(from, `file-${i}`), `${i}`)
    const watch = node.start(['watch', '-r', '/data', '--from', '1', '-n', '20'])
    const watched = finish(watch)
    const running = node.start(['import', '-j', '1', from, '/data/many'])
    const ended = finish(running)
    await watched
    running.kill('SIGINT')
    expect(await ended).toEqual({ code: 130, stdout: '', stderr: '' })
    expect(await node.ok(['import', from, '/data/many'])).toMatch(/, [1-9]\d* in place already/)
    expect(await node.ok(['diff', from, '/data/many'])).toMatch(/^equal: 6000 entries/)
  }, 120_000)

  it('ends a command that waits for its input, and a watch', async () => {
    const writing = node.start(['write', '/data/typed'])
    const writes = finish(writing)
    writing.stdin?.write('x')
    // There is no sign of its waiting but that it does: what it wrote to the session before is seen by the node.
    await until(async () => (await sessions()) >= 2)
    writing.kill('SIGINT')
    const { code, stderr } = await writes
    expect({ code, stderr }).toEqual({ code: 130, stderr: '' })
    expect((await node.nine(['stat', '/data/typed'])).code).toBe(exitCodeOf('not_found'))
  }, 60_000)
})

describe('--timeout', () => {
  it('ends a watch and the reading of a stream', async () => {
    const { code, stdout, stderr } = await node.nine(['--timeout', '300ms', 'watch', '-n', '1', '/data/nothing'])
    expect({ code, stdout }).toEqual({ code: exitCodeOf('deadline'), stdout: '' })
    expect(stderr).toBe('nine: /data/nothing: the watch ended after --timeout, 1 changes short [deadline]\n')
  })
})

describe('standard output', () => {
  it('that nobody reads on is no failure, of help neither', async () => {
    for (const line of ['nine --help', 'nine ls --help', 'nine cat /data/long']) {
      if (line.includes('long')) await node.nine(['write', '/data/long'], { input: Buffer.alloc(4_000_000, 'x\n') })
      const command = line.replace('nine', `"${process.execPath}" "${ninePath}"`)
      const child = spawn('/bin/sh', ['-c', `(${command}; echo $? >&2) | true`], {
        env: { ...process.env, NINE_ADDR: node.ready.grpc, NINE_TOKEN_FILE: node.ready.tokenFile },
      })
      expect({ line, ...(await finish(child)) }).toEqual({ line, code: 0, stdout: '', stderr: '0\n' })
    }
  }, 60_000)

  it('has no warnings beside it, however many lines a shell has', async () => {
    const { code, stderr } = await node.nine(['shell'], { input: 'stat /data\n'.repeat(15) })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  }, 60_000)
})

describe('usage', () => {
  it('of a command that does not exist is wrong with --help too', async () => {
    const { code, stderr } = await runNine(['frobnicate', '--help'])
    expect(code).toBe(2)
    expect(stderr).toContain("unknown command 'frobnicate'")
    for (const args of [['--help'], ['help'], ['help', 'ls'], ['ls', '--help'], ['token', '--help'], ['--json', '--help']]) {
      const finished = await runNine(args)
      expect([args, finished.code, finished.stderr]).toEqual([args, 0, ''])
      expect(finished.stdout).toContain('Usage: nine')
      expect(finished.stdout).toContain('--token-file <file>')
    }
  }, 60_000)

  it('refuses an origin that no browser sends', async () => {
    for (const origin of ['*', 'null', 'https://app.example/', 'app.example', 'https://App.example']) {
      const { code, stderr } = await runNine(['up', '--data', join(folder, 'never'), '--cors-origin', origin])
      expect([origin, code]).toEqual([origin, exitCodeOf('invalid')])
      expect(stderr).toContain('--cors-origin is ')
    }
  }, 60_000)
})

describe('a folder that is exported to', () => {
  it('has the mode of the tree when it is made, and keeps its own when it was there', async () => {
    const from = join(folder, 'modes')
    await mkdir(from)
    await writeFile(join(from, 'file'), 'x')
    await chmod(from, 0o750)
    await node.ok(['import', from, '/data/modes'])
    const made = join(folder, 'above', 'made')
    await node.ok(['export', '/data/modes', made])
    expect((await stat(made)).mode & 0o777).toBe(0o750)
    expect((await stat(join(folder, 'above'))).mode & 0o777).toBe(0o777 & ~process.umask())
    await chmod(made, 0o555)
    await rm(join(made, 'file'), { force: true }).catch(() => undefined)
    await node.ok(['write', '/data/modes/more', 'y'])
    await node.ok(['export', '/data/modes', made])
    expect((await stat(made)).mode & 0o777).toBe(0o555)
    expect(await node.ok(['diff', made, '/data/modes'])).toMatch(/^equal/)
  }, 60_000)
})

describe.skipIf(process.platform !== 'linux')('names that hold control characters', () => {
  it('are escaped on a terminal, and come as they are elsewhere', async () => {
    const name = 'red\x1b[31m\x07'
    await node.ok(['write', '-p', `/data/odd/${name}`, 'needle'])
    for (const args of ['ls /data/odd', 'ls -l /data/odd', 'tree /data/odd', 'find /data/odd', 'grep -rl needle /data/odd']) {
      expect(await node.ok(args.split(' ')), args).toContain(name)
      const shown = await onTerminal(args)
      expect(shown, args).toContain('red\\x1b[31m\\x07')
      expect(shown, args).not.toContain('\x07')
    }
    expect(await onTerminal(`stat "/data/odd/${name}"`)).toContain('red\\x1b[31m\\x07')
    const failed = await onTerminal(`cat "/data/odd/${name}-none"`)
    expect(failed).toContain('\\x07-none')
    expect(failed).not.toContain('\x07')
  }, 60_000)
})

/** What `nine ARGS` prints on a pseudo terminal, which `script` of util-linux gives. */
async function onTerminal(args: string): Promise<string> {
  const command = `"${process.execPath}" "${ninePath}" ${args}`
  const child = spawn('script', ['-qec', command, '/dev/null'], {
    env: { ...process.env, NO_COLOR: '1', NINE_ADDR: node.ready.grpc, NINE_TOKEN_FILE: node.ready.tokenFile },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const parts: Buffer[] = []
  child.stdout.on('data', (part: Buffer) => parts.push(part))
  await once(child, 'close')
  return Buffer.concat(parts).toString()
}

/** Sessions open at the node; the one that asks is one of them. */
async function sessions(): Promise<number> {
  return (JSON.parse(await node.ok(['cat', '/sys/status'])) as { sessions: number }).sessions
}

async function until(probe: () => Promise<boolean>): Promise<void> {
  while (!(await probe()));
}
