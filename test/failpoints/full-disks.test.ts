/**
 * Disks that are really full, below real nodes: each has its data folder on a file system of its own, of a few megabytes. Nobody acknowledges
 * what is not durable, the processes stay up, and with room all goes on without a restart.
 */
import { execFileSync } from 'node:child_process'
import { appendFileSync, cpSync, renameSync, rmSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { isNineError } from '../../namespace/errors.ts'
import type { NodeProcess } from '../chaos/node-process.ts'
import { Members, type RaftStatus } from './members.ts'
import { startWith } from './killer.ts'
import { positionNow, treeAt } from './trees.ts'

const disk_megabytes = 24
const value_bytes = 20_000
/** Small files, saved often: so that little suffices to fill a disk. */
const small = 'segment.bytes=value(262144);checkpoint.ms=value(300);overlay.bytes=value(400000);kept.entries=value(500)'
const refusals = ['no_space', 'deadline', 'unavailable', 'overloaded']

/** A file system of its own below a node that is stopped. */
class SmallDisk {
  readonly #dir: string

  constructor(node: NodeProcess) {
    this.#dir = node.dataFolder
    const before = `${this.#dir}.before`
    renameSync(this.#dir, before)
    mkdirSync(this.#dir)
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${disk_megabytes}m`, 'tmpfs', this.#dir], { stdio: 'ignore' })
    cpSync(before, this.#dir, { recursive: true })
    rmSync(before, { recursive: true })
  }

  /** To the last byte. */
  fill(): void {
    for (let bytes = 1024 * 1024; bytes >= 512;) {
      try {
        appendFileSync(this.#ballast, Buffer.alloc(bytes, 1))
      } catch {
        bytes >>= 1
      }
    }
  }

  free(): void {
    rmSync(this.#ballast)
  }

  unmount(): void {
    execFileSync('umount', ['-l', this.#dir], { stdio: 'ignore' })
  }

  get #ballast(): string {
    return join(this.#dir, 'ballast')
  }
}

function mayMount(): boolean {
  const dir = join(import.meta.dirname, `mount-${process.pid}`)
  mkdirSync(dir)
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir], { stdio: 'ignore' })
    execFileSync('umount', [dir], { stdio: 'ignore' })
    return true
  } catch {
    return false
  } finally {
    rmSync(dir, { recursive: true })
  }
}

const canMount = mayMount()
let members: Members | undefined
const disks = new Map<NodeProcess, SmallDisk>()
afterEach(async () => {
  for (const node of members?.cluster.nodes ?? []) await node.kill()
  for (const disk of disks.values()) disk.unmount()
  await members?.close()
  members = undefined
  disks.clear()
})

async function start(size: number): Promise<Members> {
  members = await Members.start(size)
  for (const node of members.cluster.nodes) {
    await node.stop()
    disks.set(node, new SmallDisk(node))
    startWith(node, small)
    await members.ready(node)
  }
  if (size > 1) await members.whole()
  return members
}

/** What was answered to writes, each of a file of its own. */
class Written {
  readonly acknowledged: string[] = []
  readonly #never: string[] = []
  #count = 0

  async write(at: NodeProcess): Promise<boolean> {
    const path = `/data/w${++this.#count}`
    try {
      await members!.clientOf(at).write(path, Buffer.alloc(value_bytes, this.#count), { timeoutMs: 10_000 })
      this.acknowledged.push(path)
      return true
    } catch (error) {
      if (!isNineError(error)) throw error
      expect(refusals).toContain(error.kind)
      if (error.outcome === 'none') this.#never.push(path)
      return false
    }
  }

  /** Until so many were taken in a row. */
  async taken(at: NodeProcess, count: number): Promise<void> {
    let row = 0
    await members!.until(async () => {
      row = (await this.write(at)) ? row + 1 : 0
      return row >= count ? true : undefined
    })
  }

  /** All nodes have the same, all that was acknowledged, and nothing that surely was not done. */
  async check(): Promise<void> {
    const { nodes } = members!.cluster
    const position = await positionNow(members!.clientOf(nodes[0]!), '/data')
    const [first, ...others] = await Promise.all(nodes.map((node) => treeAt(members!.clientOf(node), '/data', position)))
    for (const other of others) expect(other).toEqual(first)
    const there = new Set(first!.map((line) => line.slice(0, line.indexOf(' '))))
    expect(this.acknowledged.filter((path) => !there.has(path))).toEqual([])
    expect(this.#never.filter((path) => there.has(path))).toEqual([])
  }
}

const troubleOf = async (node: NodeProcess): Promise<string | undefined> =>
  ((await members!.status(node)) as RaftStatus & { readonly trouble?: string }).trouble

function expectUp(): void {
  for (const node of members!.cluster.nodes) expect([node.name, node.isRunning]).toEqual([node.name, true])
}

it.skipIf(!canMount).each([
  ['leader', true],
  ['follower', false],
] as const)(
  'of a %s: the others go on, it stays up and says why, and with room it is whole',
  { timeout: 180_000 },
  async (_role, leads) => {
    const { cluster } = await start(3)
    const first = await members!.leader()
    const node = leads ? first : cluster.nodes.find((one) => one !== first)!
    const other = members!.others(node)[0]!
    const written = new Written()
    disks.get(node)!.fill()
    await written.taken(other, 60)
    await members!.until(async () => ((await troubleOf(node)) === undefined ? undefined : true))
    expect(await troubleOf(node)).toMatch(/space|ENOSPC/i)
    await written.taken(other, 20)
    expect((await members!.status(node)).role).not.toBe('leader')
    expectUp()
    disks.get(node)!.free()
    await members!.until(async () => ((await troubleOf(node)) === undefined ? true : undefined))
    await written.taken(node, 5)
    await written.check()
    expectUp()
  },
)

it.skipIf(!canMount).each([
  [3, 'and stay up', false],
  [3, 'and are killed', true],
  [1, 'and stays up', false],
  [1, 'and is killed', true],
] as const)(
  'of all of %i %s: changes are refused, reads go on, nothing acknowledged is lost, and with room all goes on',
  { timeout: 180_000 },
  async (size, _what, isKilled) => {
    const { cluster } = await start(size)
    const at = cluster.nodes[0]!
    const written = new Written()
    await written.taken(at, 5)
    for (const disk of disks.values()) disk.fill()
    let refused = 0
    while (refused < 5) refused = (await written.write(at)) ? 0 : refused + 1
    for (const node of cluster.nodes) {
      const bytes = await members!.clientOf(node).read(written.acknowledged[0]!, { consistency: 'stale', timeoutMs: 10_000 })
      expect(bytes.length).toBe(value_bytes)
    }
    expectUp()
    // What was acknowledged is on the disks, not only in memory that is saved when there is room.
    if (isKilled) for (const node of cluster.nodes) await node.kill()
    for (const disk of disks.values()) disk.free()
    if (isKilled) {
      for (const node of cluster.nodes) node.start()
      for (const node of cluster.nodes) await members!.ready(node)
    }
    await written.taken(at, 5)
    await written.check()
    expectUp()
    // As it lies on the disks.
    for (const node of cluster.nodes) await node.kill()
    for (const node of cluster.nodes) node.start()
    for (const node of cluster.nodes) await members!.ready(node)
    await written.taken(at, 1)
    await written.check()
  },
)

it('runs where CI says so', () => {
  expect(canMount || process.env['CI'] !== 'true').toBe(true)
})
