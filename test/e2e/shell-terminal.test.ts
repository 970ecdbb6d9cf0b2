/** `nine shell` on a pseudo terminal, which `script` of util-linux gives: keys that only a terminal has. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startNode } from './run-nine.ts'
import type { NodeProcess } from './run-nine.ts'

const nine = join(import.meta.dirname, '..', '..', 'dist', 'cli', 'nine.js')
const ctrlC = '\x03'
const ctrlD = '\x04'

let node: NodeProcess
let child: ChildProcess | undefined

beforeAll(async () => {
  node = await startNode()
  await node.ok(['write', '-p', '/data/folder/file', 'what it holds'])
}, 60_000)

afterAll(async () => {
  child?.kill()
  await node.kill()
})

describe.skipIf(process.platform !== 'linux')('nine shell on a terminal', () => {
  it('completes paths, and Ctrl-C ends the command that runs and not the shell', async () => {
    const terminal = openTerminal()
    await terminal.until('$ ')
    terminal.type('cd /data/fol\t')
    await terminal.until('/data/folder/')
    terminal.type('\r')
    await terminal.until('/data/folder')
    await terminal.until('$ ')
    terminal.type('watch --from 1 file\r')
    // What was, printed by the watch: now it runs, and waits for more.
    await terminal.until('create /data/folder/file')
    terminal.type(ctrlC)
    await terminal.until('$ ')
    terminal.type('pwd\r')
    await terminal.until('\n/data/folder')
    await terminal.until('$ ')
    terminal.type(ctrlD)
    expect(await terminal.ended).toBe(0)
  }, 60_000)
})

interface Terminal {
  type(keys: string): void
  /** Resolves when `text` comes after what was awaited before. */
  until(text: string): Promise<void>
  readonly ended: Promise<number | null>
}

function openTerminal(): Terminal {
  const env = {
    ...process.env,
    TERM: 'xterm',
    NO_COLOR: '1',
    NINE_ADDR: node.ready.grpc,
    NINE_TOKEN_FILE: node.ready.tokenFile,
    NINE_HISTORY: join(node.folder, 'history'),
  }
  child = spawn('script', ['-qfec', `'${process.execPath}' '${nine}' shell`, '/dev/null'], {
    env,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const { stdin, stdout } = child
  let seen = ''
  let look = (): void => undefined
  stdout!.on('data', (part: Buffer) => {
    seen += part.toString()
    look()
  })
  return {
    type: (keys) => void stdin!.write(keys),
    until: (text) =>
      new Promise((resolve) => {
        look = () => {
          const at = seen.indexOf(text)
          if (at < 0) return
          seen = seen.slice(at + text.length)
          look = () => undefined
          resolve()
        }
        look()
      }),
    ended: new Promise((resolve) => child!.once('close', resolve)),
  }
}
