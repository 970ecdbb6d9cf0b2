/** Backups that do not go well: too many, readers that leave, no room for the state, files that come meanwhile. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Context } from '../../namespace/context.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import { Backups, receiveBackup } from '../../services/node/backups.ts'
import { openEngine } from '../../storage/engine/engine.ts'
import type { Engine } from '../../storage/engine/engine.ts'
import { verifySnapshot } from '../../storage/snapshot/verify.ts'

const context: Context = { principal: { name: 'owner', groups: [] }, deadline: Infinity }
let base: string
let engine: Engine
let backups: Backups

beforeEach(async () => {
  base = mkdtempSync(join(tmpdir(), 'nine-backups-'))
  engine = await openEngine({ dir: join(base, 'data'), owner: 'owner' })
  const store = await engine.createStore('data', 'owner')
  for (let i = 0; i < 200; i++) await store.write(context, parsePath(`/f${i}`), Buffer.alloc(10_000, i))
  backups = new Backups(engine)
})

afterEach(async () => {
  await engine.close()
  rmSync(base, { recursive: true, force: true })
})

function stream(signal = new AbortController().signal): AsyncIterableIterator<Uint8Array> {
  return backups.stream('data', { context, signal })[Symbol.asyncIterator]() as AsyncIterableIterator<Uint8Array>
}

function spools(): string[] {
  return readdirSync(join(base, 'data', 'snapshots'))
}

describe('backups of a node', () => {
  it('leave nothing behind when their reader goes away, or is told to', async () => {
    const left = stream()
    await left.next()
    expect(spools().length).toBe(1)
    await left.return!()
    expect(spools()).toEqual([])
    const stop = new AbortController()
    const stopped = stream(stop.signal)
    await stopped.next()
    stop.abort()
    await expect(async () => {
      while ((await stopped.next()).done !== true);
    }).rejects.toThrow()
    expect(spools()).toEqual([])
  })

  it('are bounded in number, and ended ones count no more', async () => {
    const some = Array.from({ length: limits.backups_max }, () => stream())
    for (const one of some) await one.next()
    await expect(stream().next()).rejects.toMatchObject({ kind: 'overloaded' })
    for (const one of some) await one.return!()
    expect((await receiveBackup(stream(), join(base, 'file'))).header.name).toBe('data')
  })

  it('fail where the state cannot be written, tell their reader, and count no more', async () => {
    rmSync(join(base, 'data', 'snapshots'), { recursive: true })
    for (let i = 0; i <= limits.backups_max; i++) {
      await expect(receiveBackup(stream(), join(base, 'file'))).rejects.toMatchObject({ kind: 'not_found' })
    }
    expect(readdirSync(base)).toEqual(['data'])
    mkdirSync(join(base, 'data', 'snapshots'))
    await receiveBackup(stream(), join(base, 'file'))
  })

  it('of a node that was killed are removed at its next start, and nothing else is', () => {
    for (const name of ['out-backup-x', 'out-backup-x.1-1.part', 'in-1']) writeFileSync(join(base, 'data', 'snapshots', name), 'x')
    backups = new Backups(engine)
    expect(spools()).toEqual(['in-1'])
  })

  it('to one file at once are each whole, and none goes over a file that came meanwhile', async () => {
    const path = join(base, 'file')
    const [first, second] = [stream(), stream()]
    const slow = receiveBackup(
      afterwards(second, () => existsSync(path)),
      path,
      { force: true },
    )
    const { hash } = await receiveBackup(first, path)
    expect((await verifySnapshot(path)).hash).toBe(hash)
    const { hash: last } = await slow
    expect((await verifySnapshot(path)).hash).toBe(last)

    const kept = join(base, 'kept')
    const refused = receiveBackup(
      afterwards(stream(), () => (writeFileSync(kept, 'kept'), true)),
      kept,
    )
    await expect(refused).rejects.toMatchObject({ kind: 'exists' })
    expect(readFileSync(kept, 'utf8')).toBe('kept')
    expect(readdirSync(base).sort()).toEqual(['data', 'file', 'kept'])
  })
})

/** The first part at once, the rest when `holds` does. */
async function* afterwards(parts: AsyncIterableIterator<Uint8Array>, holds: () => boolean): AsyncIterable<Uint8Array> {
  for await (const part of parts) {
    yield part
    while (!holds()) await new Promise(setImmediate)
  }
}
