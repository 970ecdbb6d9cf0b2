/** A log of groups that is damaged, torn or forged: what is there as a whole, or a refusal that says what to do. */
import { readFile, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { isNineError } from '../../namespace/errors.ts'
import { encodeHard } from '../../storage/wal/group-records.ts'
import { openWal } from '../../storage/wal/wal.ts'
import { testFolders } from '../storage/folders.ts'
import { SimDisk } from './disk.ts'
import { commands, configuration, onDisk, failureOf, open, type Opened } from './group-open.ts'

const fresh = testFolders()

describe('a damaged log of groups', () => {
  it.each([
    ['a gap', [commands(1, 2, 1), commands(4, 5, 1)], 'entry 3 is missing'],
    ['a missing beginning', [commands(3, 4, 1)], 'entry 1 is missing'],
    ['terms that fall', [commands(1, 1, 3), commands(2, 2, 2)], 'terms fall from 3 to 2 at entry 2'],
  ])('is refused and says what to do: %s', async (_name, parts, message) => {
    const dir = fresh()
    const first = await open({ dir })
    // Each as another group, which does not know of the others, then moved into one.
    for (const [i, entries] of parts.entries()) {
      first.log.saved(i + 1, { appliedIndex: entries[0]!.index - 1, hardLsn: 0 })
      await first.write(i + 1, { entries })
    }
    await first.wal.close()
    const path = join(dir, '00000001.wal')
    const wal = await openWal({ dir })
    const records = [...wal.replay(1)].map(({ bytes }) => Buffer.from(bytes).fill(1, 1, 2))
    await wal.close()
    await rm(path)
    const forged = await openWal({ dir })
    await forged.append(records)
    await forged.close()
    const error = await failureOf(open({ dir }))
    expect(error).toMatchObject({ kind: 'corrupt', op: 'wal.recover' })
    expect(error.message).toContain(message)
    expect(error.message).toContain('Restore the data folder')
  })

  it('is refused when a hard state goes back, a record is of no known kind, or its end is missing', async () => {
    const hard = (term: number, vote: string | null): Buffer => Buffer.from(encodeHard(1, { term, vote }))
    for (const records of [
      [hard(3, null), hard(2, null)],
      [hard(3, 'a'), hard(3, 'b')],
      [hard(3, 'a'), hard(3, null)],
      [Buffer.of(9, 1)],
      [Buffer.of()],
    ]) {
      const dir = fresh()
      const wal = await openWal({ dir })
      await wal.append(records)
      await wal.close()
      expect(await failureOf(open({ dir }))).toMatchObject({ kind: 'corrupt', op: 'wal.recover' })
    }
    const checkpoints = new Map([[1, { appliedIndex: 0, hard: { term: 9, vote: null }, hardLsn: 4 }]])
    expect((await failureOf(open({ dir: fresh() }, { checkpoints }))).message).toContain('ends with record 0')
  })

  it('any flipped byte is refused, or changes nothing', async () => {
    const dir = fresh()
    const first = await open({ dir, segmentBytes: 16 * 1024 })
    await first.write(1, { hard: { term: 1, vote: 'n1.a' }, entries: commands(1, 20, 1) })
    await first.write(2, { hard: { term: 2, vote: null }, install: { index: 4, term: 1, configuration }, entries: commands(5, 9, 2) })
    await first.wal.close()
    const [name] = await readdir(dir)
    const path = join(dir, name!)
    const before = await readFile(path)
    const shown = show(await onDisk(diskOf(before)))
    let refused = 0
    const end = before.findLastIndex((byte) => byte !== 0) + 40
    for (let at = 512; at < end; at += 3) {
      const bytes = Buffer.from(before)
      bytes[at]! ^= 1 << (at % 8)
      const disk = diskOf(bytes)
      try {
        expect(show(await onDisk(disk))).toEqual(shown)
      } catch (error) {
        if (!isNineError(error, 'corrupt')) throw error
        refused += 1
      }
    }
    expect(refused).toBeGreaterThan(150)
  })

  it('a frame cut off at any byte is there as a whole or not at all; within a sector it may be refused', async () => {
    const dir = fresh()
    const first = await open({ dir, segmentBytes: 16 * 1024 })
    await first.write(1, { hard: { term: 1, vote: 'n1.a' }, entries: commands(1, 2, 1) })
    const path = join(dir, '00000001.wal')
    const acknowledged = await readFile(path)
    await first.write(1, { hard: { term: 2, vote: null }, entries: commands(2, 150, 2) })
    const whole = await readFile(path)
    const old = show(await onDisk(diskOf(acknowledged)))
    const next = show(await onDisk(diskOf(whole)))
    const from = acknowledged.findLastIndex((byte) => byte !== 0) + 1
    const to = whole.findLastIndex((byte) => byte !== 0) + 1
    expect(to - from).toBeGreaterThan(1024)
    const results = { old: 0, next: 0, refused: 0 }
    for (let at = from; at <= to; at++) {
      const torn = Buffer.from(whole)
      acknowledged.copy(torn, at, at)
      let shown: unknown
      try {
        shown = show(await onDisk(diskOf(torn)))
      } catch (error) {
        if (!isNineError(error, 'corrupt') || at % 512 === 0) throw error // A write tears at sectors.
        results.refused += 1
        continue
      }
      expect(shown).toEqual(at < to ? old : next)
      results[at < to ? 'old' : 'next'] += 1
    }
    expect(results.next).toBe(1)
    expect(results.old).toBeGreaterThan(0)
    await first.wal.close()
  }, 30_000)
})

function diskOf(bytes: Buffer): SimDisk {
  const disk = new SimDisk()
  disk.names.set('/log/00000001.wal', { cached: Buffer.from(bytes), durable: Buffer.from(bytes) })
  return disk
}

function show({ groups }: Opened): unknown {
  return [...groups].map(([group, { hard, install, entries }]) => [
    group,
    hard,
    install,
    entries.map(({ index, term, data }) => `${index} ${term} ${data === null ? '' : Buffer.from(data).toString()}`),
  ])
}
