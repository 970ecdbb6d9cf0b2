/** Bytes of a member's log that are flipped, zeroed or missing: it refuses to start and says what to do, and what it says works. */
import { readFile, readdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { NodeProcess } from '../chaos/node-process.ts'
import { Members } from './members.ts'
import { positionNow, treeAt } from './trees.ts'

let members: Members
beforeAll(async () => void (members = await Members.start()))
afterAll(() => members?.close())

/** Where the frames of a segment begin. */
const first_frame = 512

async function segmentOf(node: NodeProcess): Promise<string> {
  const folder = join(node.dataFolder, 'wal')
  const names = (await readdir(folder)).filter((name) => name.endsWith('.wal')).sort()
  return join(folder, names[0]!)
}

async function changeBytes(file: string, change: (bytes: Buffer) => void): Promise<void> {
  const bytes = await readFile(file)
  change(bytes)
  await writeFile(file, bytes)
}

async function memberOf(node: NodeProcess): Promise<string> {
  return (JSON.parse(await readFile(join(node.dataFolder, 'cluster.json'), 'utf8')) as { member: string }).member
}

/** Those of headers are where nothing but their checksum tells. */
const damages: readonly (readonly [string, (file: string) => Promise<void>])[] = [
  ['a flipped bit in the header of a frame', (file) => changeBytes(file, (bytes) => void (bytes[first_frame + 28]! ^= 1))],
  ['a flipped bit in a record', (file) => changeBytes(file, (bytes) => void (bytes[first_frame + 36]! ^= 0x10))],
  ['a sector that was lost', (file) => changeBytes(file, (bytes) => void bytes.fill(0, first_frame, 2 * first_frame))],
  ['a file that ends early', (file) => truncate(file, 2_000)],
  ['a flipped bit in the header of a segment', (file) => changeBytes(file, (bytes) => void (bytes[30]! ^= 4))],
]

it.each(damages)('%s', async (what, damage) => {
  const at = damages.findIndex(([name]) => name === what)
  const node = members.cluster.nodes[at % 3]!
  const path = `/data/damage-${at}`
  await members.whole()
  node.failures.splice(0)
  for (let i = 0; i < 20; i++) await members.clientOf(members.others(node)[0]!).write(path, `${i}`)
  const before = await memberOf(node)
  await node.kill()
  const file = await segmentOf(node)
  await damage(file)

  // Refused, as often as it is tried, with the place and what to do.
  for (let i = 0; i < 2; i++) {
    node.start()
    const failure = await node.ready(30_000).then(() => 'it serves', String)
    expect(failure).toContain(file)
    expect(failure).toContain('empty folder')
    expect(node.failures.splice(0)).toHaveLength(1)
  }
  // The others go on without it.
  await members.clientOf(members.others(node)[0]!).write(path, 'without it')

  await node.wipe()
  node.start()
  await members.ready(node)
  expect(await memberOf(node)).not.toBe(before)
  const client = members.clientOf(node)
  expect(await client.readText(path)).toBe('without it')
  await client.write(path, 'through it')
  await members.whole()
  expect(await client.readText('/raft/data/members')).not.toContain(before)
  const position = await positionNow(client, '/data')
  const [one, ...others] = await Promise.all(members.cluster.nodes.map((each) => treeAt(members.clientOf(each), '/data', position)))
  for (const other of others) expect(other).toEqual(one)
})
