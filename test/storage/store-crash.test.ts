/**
 * Promise 1 and 4: what was acknowledged survives kill -9, whole, and a retry after it takes effect once.
 * NINE_CRASH_ROUNDS=50 for the full run.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, it } from 'vitest'

const script = join(import.meta.dirname, 'store-crash-child.ts')
const rounds = Number(process.env['NINE_CRASH_ROUNDS'] ?? 3)

type Acknowledged = Record<'append' | 'value' | 'big', Record<string, number>>

/** One life of the process: killed after so many acknowledgements. Adds them to `acked`; gives what it complained of. */
async function oneLife(dir: string, writers: number, bigWriters: number, acked: Acknowledged, acksBeforeKill: number): Promise<string[]> {
  const child = spawn(process.execPath, ['--import', 'tsx', script, dir, String(writers), String(bigWriters)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const bad: string[] = []
  let left = acksBeforeKill
  let isReady = false
  child.stdin.on('error', () => undefined)
  child.stdin.write(`${JSON.stringify(acked)}\n`)
  for await (const line of createInterface({ input: child.stdout })) {
    const [kind, writer, n] = line.split(' ') as [string, string, string]
    if (kind === 'bad') bad.push(line)
    else if (kind === 'ready') isReady = true
    else {
      acked[kind as keyof Acknowledged][writer] = Number(n)
      if (isReady && --left === 0) child.kill('SIGKILL')
    }
  }
  if (!isReady) bad.push('it did not come up')
  return bad
}

async function crashes(writers: number, bigWriters: number, acksMin: number, acksMax: number): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'nine-crash-'))
  try {
    const acked: Acknowledged = { append: {}, value: {}, big: {} }
    for (let round = 0; round < rounds; round++) {
      // Spread over the range, other ones each round, the same ones each run.
      const acks = acksMin + ((round * 7919 + 13) % (acksMax - acksMin))
      expect(await oneLife(dir, writers, bigWriters, acked, acks), `round ${round}`).toEqual([])
    }
    expect(await oneLife(dir, writers, bigWriters, acked, 1), 'last').toEqual([])
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

it(
  `200 concurrent writers, killed ${rounds} times: every acknowledged write is there, none torn, none twice`,
  () => crashes(200, 0, 300, 6000),
  60_000 + rounds * 10_000,
)

it(`large values written and collected, killed ${rounds} times`, () => crashes(10, 8, 20, 200), 60_000 + rounds * 10_000)
