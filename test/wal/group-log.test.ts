/** The log of the groups of a node: what is written comes back, when and in which order it is done, what a full or failing disk does. */
import { describe, expect, it } from 'vitest'
import type { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { openWal } from '../../storage/wal/wal.ts'
import { testFolders } from '../storage/folders.ts'
import { SimDisk } from './disk.ts'
import { command, commands, configuration, failureOf, onDisk, open, persist, texts, type Opened, type Parts } from './group-open.ts'
import { settled } from './group-run.ts'

const fresh = testFolders()
const checkpoint = (appliedIndex: number) => ({ appliedIndex, hard: { term: 0, vote: null }, hardLsn: 0 })

/** Writes many, and notes how each ends. */
function noting({ log }: Opened): {
  readonly ended: string[]
  readonly write: (name: string, group: number, parts: Parts) => void
} {
  const ended: string[] = []
  return {
    ended,
    write: (name, group, parts) =>
      log.write(group, persist(parts), (error, scope) =>
        ended.push([name, (error as NineError | undefined)?.kind, scope].filter((word) => word !== undefined).join(' ')),
      ),
  }
}

describe('the log of groups', () => {
  it('gives back hard state and entries of each group; what one turn brings is one frame', async () => {
    const dir = fresh()
    const first = await open({ dir })
    const opening = { index: 5, term: 4, data: null, configuration: null }
    const change = { index: 6, term: 4, data: null, configuration }
    await Promise.all([
      first.write(1, { hard: { term: 3, vote: 'n1.a' }, entries: commands(1, 3, 3) }),
      first.write(2, { hard: { term: 1, vote: null } }),
      first.write(1, { entries: commands(3, 4, 4) }),
      first.write(1, { entries: [opening, change] }),
    ])
    expect(first.wal.report.frames).toBe(1)
    expect(first.log.hardStateOf(1)).toEqual({ hard: { term: 3, vote: 'n1.a' }, lsn: 1 })
    expect(first.log.hardStateOf(9)).toEqual({ hard: { term: 0, vote: null }, lsn: 0 })
    await first.wal.close()
    const { groups, wal } = await open({ dir })
    expect(groups.get(1)!.hard).toEqual({ term: 3, vote: 'n1.a' })
    expect(groups.get(1)!.entries).toEqual([command(1, 3), command(2, 3), ...commands(3, 4, 4), opening, change])
    expect(groups.get(2)).toMatchObject({ hard: { term: 1, vote: null }, entries: [] })
    await wal.close()
  })

  it('a snapshot that was installed drops the log before it, and is told until a checkpoint holds it', async () => {
    const dir = fresh()
    const first = await open({ dir })
    const meta = { index: 10, term: 2, configuration }
    await first.write(1, { hard: { term: 2, vote: null }, entries: commands(1, 4, 1) })
    await first.write(1, { install: meta, entries: commands(11, 12, 2) })
    await first.wal.close()
    const second = await open({ dir }, { keptMax: 100 })
    expect(second.groups.get(1)).toMatchObject({ install: meta })
    expect(texts(second.groups.get(1)!)).toEqual(['11.2', '12.2'])
    expect(second.log.firstNeeded()).toBe(1) // the hard state
    await second.wal.close()
    const hard = { term: 2, vote: null }
    const third = await open({ dir }, { checkpoints: new Map([[1, { appliedIndex: 11, hard, hardLsn: 1 }]]) })
    expect(third.groups.get(1)).toMatchObject({ install: null, hard })
    expect(texts(third.groups.get(1)!)).toEqual(['12.2'])
    expect(third.log.firstNeeded()).toBe(8)
    await third.wal.close()
  })

  it('keeps applied entries for those who lag, as many as it is asked to', async () => {
    const dir = fresh()
    const first = await open({ dir })
    await first.write(1, { entries: commands(1, 10, 1) })
    await first.wal.close()
    const second = await open({ dir }, { checkpoints: new Map([[1, checkpoint(8)]]), keptMax: 3 })
    expect(texts(second.groups.get(1)!)).toEqual(['6.1', '7.1', '8.1', '9.1', '10.1'])
    expect(second.log.firstNeeded()).toBe(9)
    await second.wal.close()
  })

  it('an alone node becomes a member: its entries are those of term 1', async () => {
    const dir = fresh()
    const wal = await openWal({ dir })
    for (const index of [1, 2, 3]) await wal.append([Buffer.from([1, index, 77])])
    await wal.close()
    const aloneEntry = (record: Uint8Array) => ({ group: 5, term: 1, index: record[1]!, data: record.subarray(2) })
    const first = await open({ dir }, { aloneEntry, checkpoints: new Map([[5, checkpoint(1)]]) })
    expect(texts(first.groups.get(5)!)).toEqual(['M', 'M'])
    expect(first.log.firstNeeded()).toBe(2)
    await first.write(5, { hard: { term: 2, vote: 'n1.a' }, entries: [command(4, 2)] })
    await first.wal.close()
    const second = await open({ dir }, { aloneEntry, checkpoints: new Map([[5, checkpoint(2)]]) })
    expect(texts(second.groups.get(5)!)).toEqual(['M', '4.2'])
    await second.wal.close()
  })

  it('tells in order, never within the call, also of what holds nothing', async () => {
    const disk = new SimDisk()
    const opened = await onDisk(disk)
    const { ended, write } = noting(opened)
    write('empty', 1, {})
    expect(ended).toEqual([])
    await settled()
    expect(ended).toEqual(['empty'])
    disk.hold = true
    write('a', 1, { hard: { term: 1, vote: null }, entries: commands(1, 2, 1) })
    write('nothing', 2, {})
    write('b', 2, { hard: { term: 1, vote: 'n1.a' } })
    await settled()
    write('c', 1, { entries: commands(3, 3, 1) })
    await settled()
    expect(ended).toEqual(['empty'])
    expect(opened.log.hardStateOf(2).lsn).toBe(0)
    expect(opened.log.waiting).toBe(4)
    disk.release()
    expect(ended).toEqual(['empty', 'a', 'nothing', 'b'])
    disk.release()
    expect(ended.at(-1)).toBe('c')
    expect(opened.wal.report.frames).toBe(2)
  })

  it('its log can be driven: nothing is written before the turn that `defer` is given', async () => {
    const disk = new SimDisk()
    const turns: (() => void)[] = []
    const defer = (turn: () => void): void => void turns.push(turn)
    const opened = await open({ dir: '/log', files: disk, segmentBytes: 4096, defer }, { defer })
    const { ended, write } = noting(opened)
    write('a', 1, { entries: commands(1, 1, 1) })
    write('impossible', 2, { entries: commands(5, 5, 1) })
    await settled()
    expect([disk.durableWrites, ended.length]).toEqual([0, 0])
    for (const turn of turns.splice(0)) turn()
    await settled()
    expect(ended).toEqual(['a', 'impossible internal group'])
  })
})

describe('the log of groups on a full disk', () => {
  it('keeps what found no room, and writes it in order when there is some', async () => {
    const disk = new SimDisk()
    const retries: { ms: number; turn: () => void }[] = []
    const after = (ms: number, turn: () => void) => (retries.push({ ms, turn }), () => undefined)
    const opened = await onDisk(disk, { after })
    const { ended, write } = noting(opened)
    disk.faults.push({ op: 'writeDurable', code: 'ENOSPC', sectors: 1 })
    write('a', 1, { hard: { term: 1, vote: 'n1.a' }, entries: commands(1, 3, 1) })
    await settled()
    expect(opened.log.blocked).toMatchObject({ kind: 'no_space' })
    write('b', 2, { hard: { term: 4, vote: null } })
    write('c', 1, { entries: commands(2, 4, 2) })
    await settled()
    expect([ended.length, opened.wal.lastLsn, retries.length]).toEqual([0, 0, 1])
    expect(retries[0]!.ms).toBe(limits.wal_no_space_retry_ms)
    disk.faults.push({ op: 'writeDurable', code: 'ENOSPC' })
    retries.shift()!.turn()
    await settled()
    expect([ended.length, retries.length]).toEqual([0, 1])
    retries.shift()!.turn()
    expect(opened.log.blocked).toBeDefined()
    await settled()
    expect(ended).toEqual(['a', 'b', 'c'])
    expect(opened.log.blocked).toBeUndefined()
    disk.crash(() => false)
    const { groups } = await onDisk(disk)
    expect(texts(groups.get(1)!)).toEqual(['1.1', '2.2', '3.2', '4.2'])
    expect(groups.get(2)!.hard).toEqual({ term: 4, vote: null })
  })

  it('what waits is bounded: past it nothing is written any more', async () => {
    const disk = new SimDisk()
    const opened = await onDisk(disk, { after: () => () => undefined, waitingBytesMax: 2000 })
    const { ended, write } = noting(opened)
    disk.faults.push({ op: 'writeDurable', code: 'ENOSPC' })
    write('a', 1, { entries: [command(1, 1, 'x'.repeat(900))] })
    await settled()
    write('b', 1, { entries: [command(2, 1, 'x'.repeat(700))] })
    await settled()
    expect(ended).toEqual([])
    write('c', 1, { entries: [command(3, 1, 'x'.repeat(700))] })
    write('d', 2, { hard: { term: 1, vote: null } })
    await settled()
    expect(ended).toEqual(['a overloaded', 'b overloaded', 'c overloaded', 'd overloaded'])
    expect(opened.log.failure).toMatchObject({ kind: 'overloaded', outcome: 'unknown' })
  })

  it('more than the log lets wait is given when it has drained', async () => {
    const disk = new SimDisk()
    const opened = await onDisk(disk, {}, 1000)
    const { ended, write } = noting(opened)
    disk.hold = true
    for (let i = 0; i < 10; i++) write(`${i}`, 1, { entries: [0, 1].map((k) => command(i * 2 + k + 1, 1, 'x'.repeat(300))) })
    await settled()
    while (disk.release()) await settled()
    expect(ended).toEqual(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
    expect(opened.log.failure).toBeUndefined()
    disk.crash(() => false)
    const { groups } = await onDisk(disk)
    expect(groups.get(1)!.entries.length).toBe(20)
  })

  it('a write that cannot be ends those of its group that waited behind it, too', async () => {
    const disk = new SimDisk()
    const opened = await onDisk(disk, {}, 1000)
    const { ended, write } = noting(opened)
    disk.hold = true
    write('first', 1, { entries: [command(1, 1, 'x'.repeat(900))] })
    write('second', 2, { entries: [command(1, 1, 'x'.repeat(900))] })
    write('large', 1, { entries: [command(2, 1, 'x'.repeat(limits.append_bytes_max))] })
    write('behind', 1, { entries: [command(3, 1)] })
    write('other', 2, { entries: [command(2, 1)] })
    await settled()
    while (disk.release()) await settled()
    expect(ended).toEqual(['first', 'second', 'large too_large group', 'behind too_large group', 'other'])
    disk.crash(() => false)
    const { groups } = await onDisk(disk)
    expect([1, 2].map((group) => groups.get(group)!.entries.length)).toEqual([1, 2])
  })

  it('a log that is full to the brim goes on when a checkpoint has let it be cut', async () => {
    const disk = new SimDisk()
    let retry: (() => void) | undefined
    const opened = await onDisk(disk, { after: (_ms, turn) => ((retry = turn), () => undefined) })
    const { ended, write } = noting(opened)
    disk.room = 3 * 4096
    let index = 0
    while (opened.log.blocked === undefined && index < 100) {
      write(`${(index += 1)}`, 1, { entries: [command(index, 1, 'x'.repeat(500))] })
      await settled()
    }
    const durable = ended.length
    expect(durable).toBeLessThan(index)
    opened.log.saved(1, { appliedIndex: durable, hardLsn: 0 })
    const cut = opened.wal.cut(opened.log.firstNeeded() - 1)
    await cut
    while (ended.length < index) {
      const turn = retry
      retry = undefined
      turn?.()
      await settled()
    }
    expect(ended).toEqual(Array.from({ length: index }, (_, i) => `${i + 1}`))
  })
})

describe('the log of groups on a failing disk', () => {
  it('ends every waiting and later write with an error', async () => {
    const disk = new SimDisk()
    const opened = await onDisk(disk)
    const { ended, write } = noting(opened)
    await opened.write(1, { hard: { term: 1, vote: null } })
    disk.faults.push({ op: 'writeDurable', code: 'EIO', sectors: 9 })
    write('a', 1, { hard: { term: 2, vote: 'n1.a' } })
    await new Promise(setImmediate)
    write('b', 2, { hard: { term: 1, vote: null } })
    await settled()
    expect(ended).toEqual(['a internal', 'b internal'])
    write('c', 1, { hard: { term: 3, vote: null } })
    expect(ended.length).toBe(2)
    await settled()
    expect(ended.at(-1)).toBe('c internal')
    expect(opened.log.failure).toMatchObject({ outcome: 'unknown' })
    expect(opened.log.hardStateOf(1)).toEqual({ hard: { term: 1, vote: null }, lsn: 1 })
  })

  it('a log that failed while it was idle ends the next write', async () => {
    const disk = new SimDisk()
    const opened = await onDisk(disk)
    for (let i = 1; i < 12; i++) await opened.write(1, { entries: [command(i, 1, 'x'.repeat(600))] })
    disk.faults.push({ op: 'writeDurable', code: 'EIO' })
    await failureOf(opened.wal.cut(4))
    const { ended, write } = noting(opened)
    write('a', 1, { entries: [command(12, 1)] })
    write('b', 2, {})
    expect(ended).toEqual([])
    await settled()
    expect(ended).toEqual(['a unavailable', 'b unavailable'])
  })

  it('stop lets end what was given, and refuses what comes', async () => {
    const disk = new SimDisk()
    const opened = await onDisk(disk)
    const { ended, write } = noting(opened)
    disk.hold = true
    write('a', 1, { entries: commands(1, 1, 1) })
    opened.log.stop()
    write('b', 1, { entries: commands(2, 2, 1) })
    await settled()
    expect(ended).toEqual([])
    disk.release()
    expect(ended).toEqual(['a', 'b unavailable'])
    disk.hold = false
    await opened.wal.close()
  })

  it('a write that cannot be ends its group; the others go on', async () => {
    const disk = new SimDisk()
    const opened = await onDisk(disk)
    const { ended, write } = noting(opened)
    for (const group of [1, 2, 3, 4, 5]) write(`${group}`, group, { hard: { term: 5, vote: 'n1.a' }, entries: commands(1, 2, 5) })
    write('gap', 1, { entries: commands(4, 4, 5) })
    write('back', 2, { hard: { term: 4, vote: null } })
    write('vote', 3, { hard: { term: 5, vote: 'n2.b' } })
    write('large', 4, { entries: [command(3, 5, 'x'.repeat(limits.append_bytes_max))] })
    write('after', 4, { entries: commands(4, 4, 5) })
    write('ok', 5, { entries: commands(2, 4, 6) })
    await settled()
    expect(ended).toEqual([
      '1',
      '2',
      '3',
      '4',
      '5',
      'gap internal group',
      'back internal group',
      'vote internal group',
      'large too_large group',
      'after too_large group',
      'ok',
    ])
    expect(opened.log.failure).toBeUndefined()
  })
})

describe('cutting the log of groups', () => {
  it('what a group needs is its newest hard state, its entries that are not saved, its install', async () => {
    const { log, write } = await open({ dir: fresh() })
    expect(log.firstNeeded()).toBe(1)
    await write(1, { hard: { term: 1, vote: null }, entries: commands(1, 3, 1) }) // 1, and 2 to 4
    await write(2, { hard: { term: 1, vote: null } }) // 5
    await write(1, { hard: { term: 2, vote: null } }) // 6
    expect(log.firstNeeded()).toBe(1)
    log.saved(1, { appliedIndex: 3, hardLsn: 1 })
    expect(log.firstNeeded()).toBe(5)
    log.saved(2, { appliedIndex: 0, hardLsn: log.hardStateOf(2).lsn })
    expect(log.firstNeeded()).toBe(6)
    log.saved(1, { appliedIndex: 3, hardLsn: log.hardStateOf(1).lsn })
    expect(log.firstNeeded()).toBe(7)
    await write(1, { install: { index: 10, term: 2, configuration } }) // 7
    await write(1, { entries: commands(11, 12, 2) }) // 8, 9
    expect(log.firstNeeded()).toBe(7)
    log.saved(1, { appliedIndex: 11, hardLsn: 6 })
    expect(log.firstNeeded()).toBe(8) // The first record of the write that holds entry 12.
    log.saved(1, { appliedIndex: 12, hardLsn: 6 })
    expect(log.firstNeeded()).toBe(10)
    await write(1, { entries: commands(13, 15, 2) }) // 10 to 12
    await write(1, { entries: commands(13, 13, 3) }) // 13, in their place
    expect(log.firstNeeded()).toBe(13)
  })

  it('what is not durable yet is needed', async () => {
    const disk = new SimDisk()
    const { log, wal } = await onDisk(disk)
    disk.hold = true
    log.write(1, persist({ entries: commands(1, 2, 1) }), () => undefined)
    log.saved(1, { appliedIndex: 2, hardLsn: 0 })
    expect([wal.lastLsn, log.firstNeeded()]).toEqual([2, 1])
  })

  it('what is durable of a write of which the rest is not is needed', async () => {
    const disk = new SimDisk()
    const { log, wal, write } = await onDisk(disk, {}, 1000)
    disk.hold = true
    const writing = write(1, { entries: [1, 2, 3].map((index) => command(index, 1, 'x'.repeat(400))) })
    await settled()
    disk.release()
    expect([wal.durableLsn, log.firstNeeded()]).toEqual([2, 1])
    await settled()
    disk.release()
    await writing
  })

  it('a group that holds it is told of, and lets go when its tail was written again', async () => {
    const dir = fresh()
    const segmentBytes = 16 * 1024
    const { log, wal, write } = await open({ dir, segmentBytes })
    const tail = commands(1, 5, 1)
    await write(1, { hard: { term: 1, vote: 'n2.b' }, entries: tail })
    for (let i = 1; i <= 100; i++) await write(2, { entries: [command(i, 1, 'x'.repeat(1000))] })
    log.saved(2, { appliedIndex: 100, hardLsn: 0 })
    expect(log.laggards(2 ** 30)).toEqual([])
    const [laggard] = log.laggards(4 * segmentBytes)
    expect(laggard).toMatchObject({ group: 1, from: 1, to: 5 })
    expect(laggard!.bytes).toBe(wal.report.bytes)
    expect(await failureOf(log.rewrite(1, commands(4, 6, 1)))).toMatchObject({ kind: 'invalid' })
    await log.rewrite(1, tail)
    expect(log.laggards(2 * segmentBytes)).toEqual([])
    await wal.cut(log.firstNeeded() - 1)
    expect(wal.firstLsn).toBeGreaterThan(80)
    await wal.close()
    const again = await open({ dir, segmentBytes }, { checkpoints: new Map([[2, checkpoint(100)]]) })
    expect(texts(again.groups.get(1)!)).toEqual(['1.1', '2.1', '3.1', '4.1', '5.1'])
    expect(again.groups.get(1)!.hard).toEqual({ term: 1, vote: 'n2.b' })
    await again.wal.close()
  })

  it.each([
    ['a gap', { entries: commands(7, 7, 1) }],
    ['a record that is too large', { entries: [command(6, 1, 'x'.repeat(limits.append_bytes_max))] }],
    ['a vote for another', { hard: { term: 1, vote: 'n1.a' } }],
  ])('so does one that ended alone, by %s', async (_, impossible: Parts) => {
    const dir = fresh()
    const segmentBytes = 16 * 1024
    const { log, wal, write } = await open({ dir, segmentBytes })
    const tail = commands(1, 5, 1)
    await write(1, { hard: { term: 1, vote: 'n2.b' }, entries: tail })
    expect(await failureOf(write(1, impossible))).toBeDefined()
    for (let i = 1; i <= 100; i++) await write(2, { entries: [command(i, 1, 'x'.repeat(1000))] })
    log.saved(2, { appliedIndex: 100, hardLsn: 0 })
    expect(log.laggards(4 * segmentBytes)).toMatchObject([{ group: 1, from: 1, to: 5 }])
    await log.rewrite(1, tail)
    await wal.cut(log.firstNeeded() - 1)
    expect(wal.firstLsn).toBeGreaterThan(80)
    expect(await failureOf(write(1, { entries: commands(6, 6, 1) }))).toBeDefined()
    await wal.close()
    const again = await open({ dir, segmentBytes }, { checkpoints: new Map([[2, checkpoint(100)]]) })
    expect(texts(again.groups.get(1)!)).toEqual(['1.1', '2.1', '3.1', '4.1', '5.1'])
    expect(again.groups.get(1)!.hard).toEqual({ term: 1, vote: 'n2.b' })
    await again.wal.close()
  })

  it('but not by entries that were to take the place of its own, and are in no log', async () => {
    const { log, write } = await open({ dir: fresh() })
    await write(1, { hard: { term: 1, vote: 'n2.b' }, entries: commands(1, 5, 1) })
    const other = [command(3, 2, 'x'.repeat(limits.append_bytes_max)), ...commands(4, 5, 2)]
    expect(await failureOf(write(1, { hard: { term: 2, vote: null }, entries: other }))).toBeDefined()
    expect(await failureOf(log.rewrite(1, [...commands(1, 2, 1), ...other]))).toMatchObject({ kind: 'too_large' })
  })

  it('a tail of which only a part was written again is whole, wherever the log was cut', async () => {
    const dir = fresh()
    const segmentBytes = 16 * 1024
    const { log, wal, write } = await open({ dir, segmentBytes })
    const tail = commands(1, 8, 1)
    for (const entry of tail) {
      await write(1, { entries: [entry] })
      await write(2, { entries: [command(entry.index, 1, 'x'.repeat(9000))] })
    }
    log.saved(2, { appliedIndex: 8, hardLsn: 0 })
    await log.rewrite(1, tail.slice(0, 4))
    tail.push(command(9, 1))
    await write(1, { entries: tail.slice(-1) })
    await wal.cut(log.firstNeeded() - 1)
    expect(wal.firstLsn).toBeGreaterThan(4)
    await wal.close()
    const again = await open({ dir, segmentBytes }, { checkpoints: new Map([[2, checkpoint(8)]]) })
    expect(again.groups.get(1)!.entries).toEqual(tail)
    await again.wal.close()
  })

  it('an install that was written again is told, and drops nothing of what came after it', async () => {
    const dir = fresh()
    const segmentBytes = 16 * 1024
    const { log, wal, write } = await open({ dir, segmentBytes })
    const meta = { index: 10, term: 1, configuration }
    await write(1, { install: meta })
    for (let i = 1; i <= 8; i++) {
      if (i === 5) await write(1, { entries: commands(11, 12, 1) })
      await write(2, { entries: [command(i, 1, 'x'.repeat(9000))] })
    }
    log.saved(2, { appliedIndex: 8, hardLsn: 0 })
    await log.rewrite(1, [])
    await wal.cut(log.firstNeeded() - 1)
    expect(wal.firstLsn).toBeGreaterThan(1)
    await wal.close()
    const again = await open({ dir, segmentBytes }, { checkpoints: new Map([[2, checkpoint(8)]]) })
    expect(again.groups.get(1)).toMatchObject({ install: meta, entries: commands(11, 12, 1) })
    await again.wal.close()
  })
})
