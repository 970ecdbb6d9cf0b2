/**
 * Promise 7: flipped bytes are found by checksum: refused at opening or answered with an error, never served.
 * NINE_FLIPS=200 for a longer run.
 */
import { spawn } from 'node:child_process'
import { closeSync, cpSync, mkdtempSync, openSync, readdirSync, readSync, rmSync, statSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, it } from 'vitest'
import { parsePath } from '../../namespace/path.ts'
import { openEngine } from '../../storage/engine/engine.ts'

const flips = Number(process.env['NINE_FLIPS'] ?? 12)
const owner = { principal: { name: 'owner', groups: [] }, deadline: Infinity }

/** A folder in which everything is: saved records, history, chunks, and a log that goes on behind the checkpoint. */
async function sample(dir: string): Promise<Record<string, string>> {
  const engine = await openEngine({ dir, owner: 'owner' })
  const store = await engine.createStore('data')
  const expected: Record<string, string> = {}
  const write = async (path: string, text: string): Promise<void> => {
    await store.write(owner, parsePath(path), Buffer.from(text), { parents: true })
    expected[path] = text
  }
  for (let i = 0; i < 60; i++) await write(`/saved/d${i % 5}/f${i}`, `saved ${i} `.repeat(1 + ((i * 37) % 300)))
  for (let i = 0; i < 3; i++) await write(`/large/${i}`, `large ${i} `.repeat(60_000))
  await engine.save()
  for (let i = 0; i < 40; i++) await write(`/logged/f${i}`, `logged ${i} `.repeat(1 + ((i * 53) % 300)))
  const copy = `${dir}-copy`
  cpSync(dir, copy, { recursive: true })
  await engine.close()
  rmSync(dir, { recursive: true })
  cpSync(copy, dir, { recursive: true })
  rmSync(copy, { recursive: true })
  return expected
}

function filesBelow(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && statSync(join(entry.parentPath, entry.name)).size > 0)
    .map((entry) => relative(dir, join(entry.parentPath, entry.name)))
    .sort()
}

/** Offsets that hold something: a flip in unused zeros proves nothing. */
function usedOffsets(file: string, count: number, seed: number): number[] {
  const { size } = statSync(file)
  const fd = openSync(file, 'r')
  const found: number[] = []
  const byte = Buffer.alloc(1)
  let x = seed
  for (let tries = 0; found.length < count && tries < 20_000; tries++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0
    const offset = Math.floor((x / 2 ** 32) * size)
    readSync(fd, byte, 0, 1, offset)
    if (byte[0] !== 0) found.push(offset)
  }
  closeSync(fd)
  return found
}

function flip(file: string, offset: number): void {
  const fd = openSync(file, 'r+')
  const byte = Buffer.alloc(1)
  readSync(fd, byte, 0, 1, offset)
  byte[0]! ^= 0x20
  writeSync(fd, byte, 0, 1, offset)
  closeSync(fd)
}

function judge(): { ask: (dir: string, expected: Record<string, string>) => Promise<string>; end: () => void } {
  const child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, 'store-damage-child.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    ask: async (dir, expected) => {
      child.stdin.write(`${JSON.stringify({ dir, expected })}\n`)
      const line = await lines.next()
      return line.done === true ? 'served a crash of the process' : line.value
    },
    end: () => child.kill('SIGKILL'),
  }
}

it.each(['wal', 'tree', 'history', 'blobs'])(
  'a flipped byte in %s is refused or answered, never served',
  async (part) => {
    const base = mkdtempSync(join(tmpdir(), 'nine-damage-'))
    let child = judge()
    try {
      const whole = join(base, 'whole')
      const expected = await sample(whole)
      const damaged = join(base, 'damaged')
      const files = filesBelow(join(whole, part)).filter((name) => !name.endsWith('lock.mdb') && !name.endsWith('-lock'))
      expect(files.length).toBeGreaterThan(0)
      const answers: Record<string, number> = {}
      for (let i = 0; i < flips; i++) {
        const name = join(part, files[i % files.length]!)
        const [offset] = usedOffsets(join(whole, name), 1, i * 7919 + 1)
        if (offset === undefined) continue
        cpSync(whole, damaged, { recursive: true })
        flip(join(damaged, name), offset)
        const answer = await child.ask(damaged, expected)
        if (answer.includes('crash')) child = judge()
        const word = answer.split(' ')[0]!
        answers[word] = (answers[word] ?? 0) + 1
        expect(answer, `byte ${offset} of ${name}`).toMatch(/^(ok|refused (corrupt|unsupported)|answered corrupt)$/)
        rmSync(damaged, { recursive: true })
      }
      // Were all flips harmless, this would show nothing.
      expect((answers['refused'] ?? 0) + (answers['answered'] ?? 0)).toBeGreaterThan(0)
    } finally {
      child.end()
      rmSync(base, { recursive: true, force: true })
    }
  },
  300_000,
)
