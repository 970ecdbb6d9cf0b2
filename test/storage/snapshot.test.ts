/** Snapshots: the whole state to a file and into another group, whatever was done to the store before and is done meanwhile. */
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { installSnapshot } from '../../storage/snapshot/install.ts'
import { writeSnapshotFile } from '../../storage/snapshot/write.ts'
import { someCommand } from './apply-commands.ts'
import { owner, textOf, write, type Caller } from './apply-machine.ts'
import { Driven, folder, identityOf, removeFolders } from './snapshot-lanes.ts'

afterEach(removeFolders)

const caller: fc.Arbitrary<Caller> = fc.record({
  actor: fc.constantFrom(owner, 'alice'),
  client: fc.constantFrom(undefined, { id: 'c1', born: 1, settled: 0 }, { id: 'c2', born: 2, settled: 0 }),
  seq: fc.integer({ min: 1, max: 40 }),
})
const script = fc.array(fc.record({ command: someCommand, caller, saves: fc.nat(20), collects: fc.nat(30) }), {
  minLength: 1,
  maxLength: 60,
})

describe('a snapshot', () => {
  it('holds everything: tree, past, events, leases, kept results; both go on alike from it', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(script, script, fc.boolean(), async (before, after, isReopened) => {
        const from = await Driven.open(undefined, 7)
        for (const { command, caller, saves, collects } of before) {
          from.apply(command, caller)
          if (saves === 0) await from.lane.save()
          if (collects === 0) await from.lane.tree.history.compact({ bytesMax: 4000, olderThan: 0 })
          if (collects === 1) await from.lane.tree.collect(1000)
        }
        await from.lane.save()
        const path = join(folder(), 'snapshot')
        const { header } = await writeSnapshotFile(from.lane.tree, identityOf(7), path)
        expect(header).toMatchObject({ index: from.lane.appliedIndex, revision: from.lane.revision, floor: from.lane.tree.history.floor })
        const to = await Driven.open(undefined, 9)
        to.apply(write('/old', 'old'))
        const loaded = await to.load(path)
        await installSnapshot(to.lane, loaded)
        expect(to.seen()).toEqual(from.seen())
        if (isReopened) await to.reopen()
        expect(to.seen()).toEqual(from.seen())
        // What was asked before is answered as it was; what is new is done alike.
        for (const { command, caller } of [...before, ...after]) {
          expect(textOf(to.apply(command, caller))).toEqual(textOf(from.apply(command, caller)))
        }
        expect(to.seen()).toEqual(from.seen())
        await from.close()
        await to.close()
      }),
      { numRuns: 25 },
    )
  })
})
