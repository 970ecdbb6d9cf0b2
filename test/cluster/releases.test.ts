/**
 * A cluster while it is brought to a later release, node by node. The later release is this build with a package version and a range of
 * protocol versions of its own: real processes, which greet each other as two releases would.
 */
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { versions } from '../../services/peer/hello.ts'
import type { VersionRange } from '../../services/peer/hello.ts'
import type { NodeProcess } from '../chaos/node-process.ts'
import { ninePath } from '../e2e/up.ts'
import { Processes, until } from './processes.ts'

const root = join(dirname(ninePath), '..', '..')
const next: VersionRange = { min: versions.max, max: versions.max + 1 }
const afterNext: VersionRange = { min: versions.max + 1, max: versions.max + 2 }

let folder: string
let cluster: Processes

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ninefold-releases-'))
  cluster = await Processes.start(3)
})

afterAll(async () => {
  await cluster?.close()
  await rm(folder, { recursive: true, force: true })
})

/** @returns the command of a build that says it is `version` and speaks these versions of the protocol */
async function release(version: string, { min, max }: VersionRange): Promise<string> {
  const at = join(folder, version)
  await cp(join(root, 'dist'), join(at, 'dist'), { recursive: true })
  await symlink(join(root, 'node_modules'), join(at, 'node_modules'))
  const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as object
  await writeFile(join(at, 'package.json'), JSON.stringify({ ...manifest, version }))
  await change(
    join(at, 'dist', 'services', 'peer', 'hello.js'),
    /const versions = \{[^}]*\}/,
    `const versions = { min: ${min}, max: ${max} }`,
  )
  return join(at, 'dist', 'cli', 'nine.js')
}

async function change(file: string, from: RegExp, to: string): Promise<void> {
  const before = await readFile(file, 'utf8')
  expect(before).toMatch(from)
  await writeFile(file, before.replace(from, to))
}

interface Row {
  readonly node: string
  readonly version?: string
  readonly protocol?: number
}

/** What a node says of the others of /data once it speaks with both: the release of each, and the protocol that is spoken. */
async function othersAt(name: string): Promise<Row[]> {
  const { client } = await cluster.connect({ addresses: [cluster.node(name).setup.grpc] })
  let others: Row[] = []
  await until(`${name} speaks with the others`, 20_000, async () => {
    const lines = (await client.readText('/raft/data/members')).split('\n').filter((line) => line !== '')
    others = lines.map((line) => JSON.parse(line) as Row).filter(({ node }) => node !== name)
    return others.every(({ version, protocol }) => version !== undefined && protocol !== undefined)
  })
  return others
}

it('is brought one release further while clients write, each pair speaking the newest that both know', async () => {
  const command = await release('7.0.0', next)
  const { client } = await cluster.connect()
  const stop = new AbortController()
  let written = 0
  const writing = (async () => {
    while (!stop.signal.aborted) await client.write('/data/count', String(++written))
  })()
  const upgrading = (async () => {
    const done: string[] = []
    for (const node of cluster.nodes) {
      await node.stop()
      node.command = command
      await cluster.start(node)
      done.push(node.name)
      for (const { node: other, version, protocol } of await othersAt(node.name)) {
        const isLater = done.includes(other)
        expect([other, protocol, version === '7.0.0']).toEqual([other, isLater ? next.max : versions.max, isLater])
      }
    }
  })()
  await Promise.race([upgrading, writing])
  await upgrading
  stop.abort()
  await writing
  expect(written).toBeGreaterThan(10)
  // Each write took effect once.
  expect((await client.stat('/data/count')).qid.version).toBe(written)
})

it('keeps a release out that is two further than the others, says so on both sides, and goes on without it', async () => {
  const [first, second, third] = cluster.nodes
  for (const node of [first!, second!]) {
    await node.stop()
    node.command = undefined
    await cluster.start(node)
  }
  await third!.stop()
  third!.command = await release('9.0.0', afterNext)
  third!.start()
  const isRefused = (node: NodeProcess): boolean => /speaks versions .* none in common/.test(node.logEnd())
  await until('both sides say so', 20_000, () => isRefused(third!) && isRefused(first!))
  const { client } = await cluster.connect({ addresses: [first!.setup.grpc, second!.setup.grpc] })
  await client.write('/data/count', 'without it')
  expect(third!.isRunning).toBe(true)
  third!.command = undefined
  await third!.stop()
  await cluster.start(third!)
  expect(third!.failures).toEqual([])
})
