/** The tree against a tiny model: random transactions, rollbacks, checkpoints, crashes, the past, compaction, collection. */
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { NineError } from '../../namespace/errors.ts'
import { rootIno } from '../../storage/model.ts'
import { openEnvironment, type Environment } from '../../storage/tree/environment.ts'
import type { Tree, TreeOptions } from '../../storage/tree/tree.ts'
import { testFolders } from './folders.ts'
import { expectSame, inline, Model, plain, record, revisionOf, runProgram, type Step } from './tree-model.ts'

const folder = testFolders()
const open: Environment[] = []

afterEach(async () => {
  for (const environment of open.splice(0)) await environment.close()
})

async function openTree(dir: string, options: Partial<TreeOptions> = {}): Promise<{ environment: Environment; tree: Tree }> {
  const environment = await openEnvironment({ dir: join(dir, 'tree'), historyDir: join(dir, 'history'), mapBytes: 1024 * 1024 })
  open.push(environment)
  return { environment, tree: await environment.tree(7, { owner: 'ann', apartOver: 40, historySegmentBytes: 3000, ...options }) }
}

const names = ['a', 'b', 'c', 'é', '\u{1f600}', '\uffee', 'aa', 'z'.repeat(60)]
const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('create', 'mkdir', 'write', 'remove', 'rename', 'replace'),
  pick: fc.nat(1000),
  into: fc.nat(1000),
  name: fc.constantFrom(...names),
  size: fc.constantFrom(0, 1, 10, 39, 40, 41, 300),
})
const program = fc.array(step, { minLength: 1, maxLength: 5 })
type Action =
  | { do: 'run' | 'rollback'; program: Step[] }
  | { do: 'checkpoint' | 'crash' | 'collect' | 'compact'; at: number }
  | { do: 'running-checkpoint' | 'failing-checkpoint'; program: Step[] }
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ do: fc.constant('run' as const), program }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('rollback' as const), program }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('checkpoint' as const, 'crash' as const), at: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('collect' as const, 'compact' as const), at: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('running-checkpoint' as const, 'failing-checkpoint' as const), program }) },
)

describe('the tree against its model', () => {
  it('shows the newest and every kept state, over checkpoints and crashes', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 60 }), fc.nat(), async (actions, seed) => {
        const dir = folder()
        let { environment, tree } = await openTree(dir)
        const model = new Model(tree.newest.node(rootIno)!)
        let saved = 0
        const state = (): { appliedIndex: number; revision: number; meta: [string, Uint8Array][] } => ({
          appliedIndex: model.revision + 100,
          revision: model.revision,
          meta: [['k', Buffer.from(String(model.revision))]],
        })
        for (const act of actions) {
          if (act.do === 'run' || act.do === 'rollback') runProgram(tree, model, act.program, act.do === 'run')
          else if (act.do === 'checkpoint') {
            await tree.checkpoint(state())
            saved = model.revision
          } else if (act.do === 'running-checkpoint') {
            const running = tree.checkpoint(state())
            saved = model.revision
            runProgram(tree, model, act.program)
            expectSame(tree.newest, model.state)
            await running
            expectSame(tree.newest, model.state)
          } else if (act.do === 'failing-checkpoint') {
            const whole = environment.write.bind(environment)
            environment.write = () => Promise.reject(new NineError({ kind: 'no_space', op: 'test', message: 'the disk is full' }))
            const running = tree.checkpoint(state())
            runProgram(tree, model, act.program)
            await expect(running).rejects.toMatchObject({ kind: 'no_space' })
            environment.write = whole
          } else if (act.do === 'collect') await tree.collect(1000)
          else if (act.do === 'compact') await tree.history.compact({ bytesMax: 6000, olderThan: 0 })
          else {
            await environment.close()
            ;({ environment, tree } = await openTree(dir))
            expect(tree.meta()).toMatchObject({ revision: saved, appliedIndex: saved === 0 ? tree.appliedIndex : saved + 100 })
            for (const lost of model.rewind(saved)) runProgram(tree, model, lost)
          }
          expectSame(tree.newest, model.state, 2)
        }
        const { floor } = tree.history
        for (let revision = floor; revision <= model.revision; revision += 1 + (seed % 3)) {
          expectSame(tree.at(revision), model.states[revision]!)
        }
        if (floor > 0) expect(() => tree.at(floor - 1)).toThrow(expect.objectContaining({ kind: 'compacted' }))
        expect(() => tree.at(model.revision + 1)).toThrow(expect.objectContaining({ kind: 'invalid' }))
        await environment.close()
      }),
      { numRuns: 120 },
    )
  })
})

describe('transactions', () => {
  it('give images with what they superseded, once for each thing touched', async () => {
    const { tree } = await openTree(folder())
    const first = tree.begin(1)
    const ino = first.nextIno()
    first.put(record({ ino, since: 1, content: inline('one') }))
    first.link(rootIno, 'f', ino)
    first.put(record({ ino, since: 1, version: 2, content: inline('two') }))
    const images = first.commit()
    expect(images).toHaveLength(2)
    expect(images[0]).toMatchObject({ kind: 'node', after: { version: 2 }, before: undefined })
    expect(images[1]).toMatchObject({ kind: 'entry', after: { ino, name: 'f', since: 1 }, before: undefined })
    tree.history.append(revisionOf(1, images))
    const second = tree.begin(2)
    second.unlink(rootIno, 'f')
    expect(second.child(rootIno, 'f')).toBeUndefined()
    expect(second.commit()).toMatchObject([{ kind: 'entry', after: { ino: 0, since: 2 }, before: { ino, since: 1 } }])
    expect(tree.newest.child(rootIno, 'f')).toBeUndefined()
  })

  it('rolled back, leave no trace and no gap in the numbers', async () => {
    const { tree } = await openTree(folder())
    const before = tree.overlayBytes
    const transaction = tree.begin(1)
    const ino = transaction.nextIno()
    transaction.put(record({ ino, since: 1 }))
    transaction.link(rootIno, 'f', ino)
    transaction.rollback()
    expect(tree.newest.node(ino)).toBeUndefined()
    expect(tree.newest.children(rootIno, '', 10)).toEqual([])
    expect(tree.overlayBytes).toBe(before)
    expect(tree.begin(1).nextIno()).toBe(ino)
  })

  it('refuse records of another revision and a second transaction', async () => {
    const { tree } = await openTree(folder())
    const transaction = tree.begin(1)
    expect(() => transaction.put(record({ ino: 2, since: 5 }))).toThrow(NineError)
    expect(() => tree.begin(1)).toThrow(NineError)
    transaction.rollback()
    expect(() => tree.begin(3)).toThrow(NineError)
  })
})

describe('the past of what changes often', () => {
  it('is exact at every revision, over the shortcuts of history', async () => {
    const { tree } = await openTree(folder(), { historySegmentBytes: 40_000 })
    for (let revision = 1; revision <= 700; revision++) {
      const transaction = tree.begin(revision)
      const ino = revision === 1 ? transaction.nextIno() : 2
      transaction.put(record({ ino, since: revision, name: 'f', content: inline(String(revision)) }))
      if (revision % 2 === 1) transaction.link(rootIno, 'f', ino)
      else transaction.unlink(rootIno, 'f')
      tree.history.append(revisionOf(revision, transaction.commit()))
    }
    for (let revision = 1; revision <= 700; revision++) {
      const view = tree.at(revision)
      expect(view.node(2)?.since).toBe(revision)
      expect(view.child(rootIno, 'f')).toBe(revision % 2 === 1 ? 2 : undefined)
    }
  })
})

describe('values kept apart', () => {
  it('are read when asked for, and from history once they were overwritten', async () => {
    const dir = folder()
    let { environment, tree } = await openTree(dir)
    const write = (revision: number, text: string): void => {
      const transaction = tree.begin(revision)
      const ino = 2
      if (revision === 1) transaction.link(rootIno, 'f', transaction.nextIno())
      transaction.put(record({ ino, since: revision, name: 'f', version: revision, content: inline(text) }))
      tree.history.append(revisionOf(revision, transaction.commit()))
    }
    write(1, 'x'.repeat(1000))
    await tree.checkpoint({ appliedIndex: 1, revision: 1, meta: [] })
    await environment.close()
    ;({ environment, tree } = await openTree(dir))
    const old = tree.newest.node(2)!
    expect(old.content).toMatchObject({ kind: 'inline', size: 1000 })
    write(2, 'y'.repeat(1000))
    await tree.checkpoint({ appliedIndex: 2, revision: 2, meta: [] })
    expect(plain(old)).toMatchObject({ content: Buffer.from('x'.repeat(1000)).toString('base64') })
    expect(plain(tree.at(1).node(2))).toEqual(plain(old))
    expect(environment.tables.contents.getBinary({ group: 7, a: 2, b: 1, c: -1, text: '' })).toBeUndefined()
  })
})

describe('meta', () => {
  it('comes back as the last checkpoint had it, taken away keys gone', async () => {
    const dir = folder()
    let { environment, tree } = await openTree(dir)
    const checkpoint = (index: number, meta: [string, Uint8Array | undefined][]): Promise<void> =>
      tree.checkpoint({ appliedIndex: index, revision: 0, meta })
    await checkpoint(5, [['a', Buffer.from('1')], ['b', Buffer.from('2')], ['', Buffer.from('3')]]) // prettier-ignore
    await checkpoint(6, [['b', undefined], ['a', Buffer.from('4')]]) // prettier-ignore
    await environment.close()
    ;({ environment, tree } = await openTree(dir))
    const { appliedIndex, revision, meta } = tree.meta()
    expect([appliedIndex, revision]).toEqual([6, 0])
    expect(meta.map(([key, value]) => [key, Buffer.from(value).toString()])).toEqual([['', '3'], ['a', '4']]) // prettier-ignore
  })
})
