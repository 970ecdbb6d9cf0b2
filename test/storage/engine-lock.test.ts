/** The lock of a data folder: one process at a time, freed by kill -9, decided between starters of the same moment. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { lockFolder } from '../../storage/engine/lock.ts'

const script = join(import.meta.dirname, 'engine-lock-child.ts')
let dir: string
const children: ChildProcess[] = []

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'nine-lock-'))
})

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  rmSync(dir, { recursive: true, force: true })
})

/** Starts a process that tries to lock `dir` when told to; its answer is one line. */
function starter(platform: string): { child: ChildProcess; ready: Promise<unknown>; go: () => void; answer: Promise<string> } {
  const child = spawn(process.execPath, ['--import', 'tsx', script, dir, platform], { stdio: ['pipe', 'pipe', 'inherit'] })
  children.push(child)
  const lines = readLines(child)
  return { child, ready: lines(), go: () => child.stdin.write('go\n'), answer: lines() }
}

function readLines(child: ChildProcess): () => Promise<string> {
  let text = ''
  const waiting: ((line: string) => void)[] = []
  const ready: string[] = []
  child.stdout!.on('data', (data: Buffer) => {
    text += data.toString()
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
      const line = text.slice(0, end)
      text = text.slice(end + 1)
      const next = waiting.shift()
      if (next === undefined) ready.push(line)
      else next(line)
    }
  })
  return () => new Promise((resolve) => (ready.length > 0 ? resolve(ready.shift()!) : waiting.push(resolve)))
}

describe.each(['linux', 'other'])('lock, %s', (platform) => {
  it('refuses a second one, names the pid, and is free after release', async () => {
    const lock = await lockFolder(dir, platform)
    await expect(lockFolder(dir, platform)).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining(`pid ${process.pid}`) as string,
    })
    await lock.release()
    await (await lockFolder(dir, platform)).release()
  })

  it('names the other process, and is free once that was killed', async () => {
    const { child, ready, go, answer } = starter(platform)
    await ready
    go()
    expect(await answer).toBe('locked')
    await expect(lockFolder(dir, platform)).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining(`pid ${child.pid}`) as string,
    })
    child.kill('SIGKILL')
    await once(child, 'exit')
    await (await lockFolder(dir, platform)).release()
  })

  it('goes to one of several that start at the same moment, over a lock left by a dead process', async () => {
    writeFileSync(join(dir, 'lock'), '4194304\n')
    const starters = Array.from({ length: 4 }, () => starter(platform))
    await Promise.all(starters.map((one) => one.ready))
    for (const one of starters) one.go()
    const answers = await Promise.all(starters.map((one) => one.answer))
    expect(answers.filter((answer) => answer === 'locked')).toHaveLength(1)
    expect(answers.filter((answer) => answer === 'unavailable')).toHaveLength(3)
    expect(readdirSync(dir)).toEqual(['lock'])
  })
})
