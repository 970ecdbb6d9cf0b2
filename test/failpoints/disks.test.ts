/** Disks that fail, are slow or full below nodes that are processes of their own. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { isNineError, type NineError } from '../../namespace/errors.ts'
import { connect } from '../../sdk/connect.ts'
import type { NodeProcess } from '../chaos/node-process.ts'
import { Members } from './members.ts'
import { positionNow, treeAt } from './trees.ts'

let members: Members
beforeAll(async () => void (members = await Members.start()))
afterEach(async () => {
  for (const node of members.cluster.nodes) if (!node.isRunning || node === failing) await members.mended(node)
})
afterAll(() => members?.close())

/** The node whose disk fails in the test under way. */
let failing: NodeProcess | undefined

async function failureOf(done: Promise<unknown>): Promise<NineError> {
  const error = await done.then(
    () => undefined,
    (failure: unknown) => failure,
  )
  if (isNineError(error)) return error
  throw new Error(`it should have failed: ${String(error)}`)
}

async function expectEqualTrees(): Promise<void> {
  const { nodes } = members.cluster
  const position = await positionNow(members.clientOf(nodes[0]!), '/data')
  const [first, ...others] = await Promise.all(nodes.map((node) => treeAt(members.clientOf(node), '/data', position)))
  for (const other of others) expect(other).toEqual(first)
}

/** A write straight to this node, whoever else could be asked. */
async function writeAt(node: NodeProcess, path: string, timeoutMs: number): Promise<void> {
  const session = await connect({ address: node.setup.grpc, token: members.cluster.token })
  try {
    await session.client.write(path, 'x', { timeoutMs })
  } finally {
    await session.close()
  }
}

describe('an I/O error when the log is synced', () => {
  it.each([
    ['leader', true],
    ['follower', false],
  ] as const)(
    'of a %s: it acknowledges nothing more and says why, the others go on, and started again it is whole',
    async (role, leads) => {
      const node = members.cluster.nodes[leads ? 0 : 1]!
      failing = node
      await members.failing(node, 'wal.sync=EIO', leads)
      const others = members.others(node)
      await failureOf(writeAt(node, `/data/eio-${role}-lost`, 5_000))
      const next = await members.leader(others)
      for (let i = 0; i < 10; i++) await members.clientOf(next).write(`/data/eio-${role}-${i}`, `${i}`, { timeoutMs: 10_000 })
      for (let i = 0; i < 3; i++) {
        expect(await failureOf(writeAt(node, `/data/eio-${role}-never`, 2_000))).toMatchObject({ kind: 'unavailable', outcome: 'none' })
      }
      expect(await members.readyz(node)).toMatchObject({ code: 503, text: expect.stringContaining('EIO') as string })
      const status = await members.status(node)
      expect(status.failure).toContain('EIO')
      expect(status.role).not.toBe('leader')
      await members.mended(node)
      expect(await members.readyz(node)).toEqual({ code: 200, text: 'ready\n' })
      expect(await members.clientOf(node).readText(`/data/eio-${role}-9`)).toBe('9')
      expect(await members.clientOf(node).exists(`/data/eio-${role}-never`)).toBe(false)
      await expectEqualTrees()
    },
  )
})

describe('a disk that takes long for each write', () => {
  it('of a follower: nobody waits for it', async () => {
    const node = members.cluster.nodes[2]!
    failing = node
    await members.failing(node, 'wal.write=delay(1000)', false)
    const client = members.clientOf(await members.leader())
    const times: number[] = []
    for (let i = 0; i < 40; i++) {
      const began = performance.now()
      await client.write('/data/slow-follower', `${i}`)
      times.push(performance.now() - began)
    }
    // One that waited for it took longer than its disk.
    expect(times.sort((a, b) => a - b)[20]).toBeLessThan(1_000)
    await members.mended(node)
    await expectEqualTrees()
  })

  it('of the leader: it works, or hands over, without one election after the other', async () => {
    const node = members.cluster.nodes[0]!
    failing = node
    await members.failing(node, 'wal.write=delay(150)', true)
    const before = (await members.status(node)).term
    const client = members.clientOf(members.others(node)[0]!)
    let done = 0
    const end = performance.now() + 6_000
    await Promise.all(
      Array.from({ length: 8 }, async (_, writer) => {
        for (; performance.now() < end; done++) await client.write(`/data/slow-leader-${writer}`, `${done}`, { timeoutMs: 10_000 })
      }),
    )
    expect(done).toBeGreaterThan(8 * 10)
    expect((await members.status(members.others(node)[0]!)).term - before).toBeLessThanOrEqual(2)
    await members.mended(node)
    await expectEqualTrees()
  })
})

describe('a full disk', () => {
  it.each([
    ['leader', true],
    ['follower', false],
  ] as const)('of a %s: the others go on, nothing that was acknowledged is lost, and with room it is whole', async (role, leads) => {
    const node = members.cluster.nodes[leads ? 1 : 2]!
    failing = node
    const full = 'wal.fill=ENOSPC;tree.write=ENOSPC;chunk.write=ENOSPC;segment.bytes=value(65536);checkpoint.ms=value(300)'
    await members.failing(node, full, leads)
    const value = Buffer.alloc(20_000, 1)
    const acknowledged: string[] = []
    const client = members.clientOf(members.others(node)[0]!)
    for (let i = 0; i < 40; i++) {
      const path = `/data/full-${role}-${i}`
      await client.write(path, value, { timeoutMs: 10_000 }).then(
        () => acknowledged.push(path),
        (error: unknown) => expect(['no_space', 'deadline', 'unavailable']).toContain((error as NineError).kind),
      )
    }
    expect(acknowledged.length).toBeGreaterThan(20)
    await members.mended(node)
    for (const path of acknowledged) expect((await members.clientOf(node).read(path)).length).toBe(20_000)
    await expectEqualTrees()
  })
})
