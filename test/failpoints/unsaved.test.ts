/** Nodes whose stores cannot be saved while their log can be written, or whose received snapshots find no room. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { NodeProcess } from '../chaos/node-process.ts'
import { Members, type RaftStatus } from './members.ts'
import { startWith } from './killer.ts'
import { positionNow, treeAt } from './trees.ts'

interface FullStatus extends RaftStatus {
  readonly applied: number
  readonly last: number
  readonly trouble?: string
}

let members: Members
beforeAll(async () => void (members = await Members.start()))
afterAll(() => members?.close())

const overlay_bytes = 200_000
const uncommitted_bytes = 400_000
const value_bytes = 20_000
/** The database takes nothing; little memory for what it did not take. */
const unsaved = `tree.write=ENOSPC;overlay.bytes=value(${overlay_bytes});uncommitted.bytes=value(${uncommitted_bytes});checkpoint.ms=value(200)`

const statusOf = async (node: NodeProcess): Promise<FullStatus> => (await members.status(node)) as FullStatus

async function write(node: NodeProcess, folder: string, count: number): Promise<string[]> {
  const written: string[] = []
  for (let i = 0; i < count; i++) {
    const path = `/data/${folder}-${i}`
    await members
      .clientOf(node)
      .write(path, Buffer.alloc(value_bytes, i), { timeoutMs: 10_000 })
      .then(
        () => written.push(path),
        (error: unknown) => expect(['no_space', 'deadline', 'unavailable', 'overloaded']).toContain((error as NineError).kind),
      )
  }
  return written
}

async function expectWhole(paths: readonly string[]): Promise<void> {
  const { nodes } = members.cluster
  const position = await positionNow(members.clientOf(nodes[0]!), '/data')
  const [first, ...others] = await Promise.all(nodes.map((node) => treeAt(members.clientOf(node), '/data', position)))
  for (const other of others) expect(other).toEqual(first)
  for (const path of paths) expect(first!.some((line) => line.startsWith(`${path} `))).toBe(true)
}

it('a follower takes in no more than it has memory for, says why, holds up nobody, and catches up once it can', async () => {
  const node = members.cluster.nodes[2]!
  await members.failing(node, unsaved, false)
  const other = members.others(node)[0]!
  const before = (await statusOf(other)).applied
  const entries = 300
  const written = await write(other, 'follower', entries)
  expect(written.length).toBe(entries)
  const status = await members.until(async () => {
    const now = await statusOf(node)
    return now.trouble === undefined ? undefined : now
  })
  expect(status.trouble).toContain('ENOSPC')
  const more = await write(other, 'follower-more', 150)
  expect(more.length).toBe(150)
  // What it applied and could not save, what waits to be applied, and two messages on their way: not what was written.
  const bytesMax = 2 * overlay_bytes + uncommitted_bytes + 2 * limits.raft_append_bytes_max
  const { last } = await statusOf(node)
  expect((last - before) * value_bytes).toBeLessThan(bytesMax)
  await members.mended(node)
  await expectWhole([...written, ...more])
  expect((await statusOf(node)).trouble).toBeUndefined()
})

it('a leader hands over, and the cluster goes on', async () => {
  const node = members.cluster.nodes[0]!
  await members.failing(node, unsaved, true)
  const others = members.others(node)
  const written = await write(others[0]!, 'leader', 60)
  await members.until(async () => ((await statusOf(node)).trouble === undefined ? undefined : true))
  await members.leader(others)
  expect((await statusOf(node)).role).toBe('follower')
  const more = await write(others[0]!, 'leader-more', 60)
  expect(more.length).toBe(60)
  await members.mended(node)
  await expectWhole([...written, ...more])
})

it('a snapshot that finds no room is put in place when there is some, without a restart', async () => {
  const node = members.cluster.nodes[1]!
  const often = 'kept.entries=value(50);checkpoint.ms=value(300);segment.bytes=value(65536)'
  const others = members.others(node)
  for (const other of others) {
    await other.stop()
    startWith(other, often)
    await members.ready(other)
  }
  await node.stop()
  const written = await write(others[0]!, 'away', 200)
  for (const other of others) await members.clientOf(other).write('/raft/data/ctl', 'snapshot', { timeoutMs: 10_000 })
  written.push(...(await write(others[0]!, 'behind', 80)))
  await members.startFailing(node, `${often};install.take=ENOSPC`)
  await members.cluster.ready([node])
  await members.ready(node)
  const seen = await members.until(async () => (await statusOf(node)).trouble)
  expect(seen).toMatch(/snapshot of store data .*ENOSPC/)
  await members.passes(node)
  await members.until(async () => ((await statusOf(node)).trouble === undefined ? true : undefined))
  await expectWhole(written)
})
