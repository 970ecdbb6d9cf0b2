/**
 * Real input: the project's own installed node_modules, in and out of a real node and compared at every turn, and each of its
 * files over HTTP and over unary gRPC byte for byte. Counts and times are printed.
 */
import { execFileSync } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { credentials, loadPackageDefinition, Metadata } from '@grpc/grpc-js'
import type { Client, ServiceError } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { InFlight } from '../../cli/transfer/in-flight.ts'
import { localTree } from '../../cli/transfer/local-tree.ts'
import type { TreeEntry } from '../../cli/transfer/local-tree.ts'
import { startNode, temporaryFolder } from './run-nine.ts'
import type { NodeProcess } from './run-nine.ts'

const root = join(import.meta.dirname, '..', '..')
const patient = 300_000

let node: NodeProcess
/** A copy, because tools write to caches below node_modules while tests run. */
let folder: string
let modules: string
const entries: TreeEntry[] = []

beforeAll(async () => {
  node = await startNode()
  folder = await temporaryFolder()
  modules = join(folder, 'modules')
  execFileSync('cp', ['-a', `${join(root, 'node_modules')}/.`, modules])
  for await (const entry of localTree(modules, (unfit) => expect.unreachable(unfit.path))) entries.push(entry)
}, patient)

afterAll(async () => {
  await node.kill()
  await rm(folder, { recursive: true })
}, patient)

function count(kind: TreeEntry['kind']): number {
  return entries.filter((entry) => entry.kind === kind).length
}

function say(what: string, begun: number, text: string): void {
  console.log(`real tree: ${what}: ${text.trim().split('\n').at(-1)} [${((performance.now() - begun) / 1000).toFixed(1)} s with start-up]`)
}

async function timed(args: string[]): Promise<string> {
  const begun = performance.now()
  const out = await node.ok(args)
  say(args[0]!, begun, out)
  return out
}

describe('the project’s own node_modules', () => {
  it(
    'comes in whole and equal',
    async () => {
      const out = await timed(['import', modules, '/data/modules'])
      expect(out).toMatch(
        new RegExp(`^imported ${count('file')} files, ${count('directory')} directories, ${count('symlink')} symbolic links`),
      )
      expect(await timed(['diff', modules, '/data/modules'])).toMatch(new RegExp(`^equal: ${entries.length} entries`))
    },
    patient,
  )

  it(
    'is found, searched and listed as by find and grep',
    async () => {
      const found = (await timed(['find', '/data/modules', '--name', 'package.json', '--type', 'f'])).trim().split('\n')
      const here = entries.filter(({ kind, path }) => kind === 'file' && /(^|\/)package\.json$/.test(path))
      expect(found).toEqual(here.map(({ path }) => `/data/modules/${path}`))
      const matched = (await timed(['grep', '-rlF', 'Apache-2.0', '/data/modules/typescript'])).trim().split('\n').sort()
      const grep = execFileSync('grep', ['-rlIF', 'Apache-2.0', 'typescript'], { cwd: modules, encoding: 'utf8' }).trim().split('\n').sort()
      expect(matched).toEqual(grep.map((path) => `/data/modules/${path}`))
      const listed = (await timed(['ls', '-R', '/data/modules'])).trim().split('\n')
      expect(listed).toEqual(entries.map(({ path }) => path))
    },
    patient,
  )

  it(
    'has the same bytes over HTTP and over unary gRPC',
    async () => {
      const files = entries.filter(({ kind }) => kind === 'file')
      let begun = performance.now()
      let bytes = 0
      const agent = new Agent({ keepAlive: true, maxSockets: 32 })
      await forEach(files, async (entry) => {
        const [ours, theirs] = await Promise.all([readFile(join(modules, entry.path)), overHttp(agent, entry.path)])
        if (!ours.equals(theirs)) throw new Error(`${entry.path} differs over HTTP`)
        bytes += ours.length
      })
      agent.destroy()
      say('HTTP', begun, `${files.length} files, ${bytes} bytes equal`)
      begun = performance.now()
      const grpc = openGrpc()
      await forEach(files, async (entry) => {
        const [ours, theirs] = await Promise.all([readFile(join(modules, entry.path)), grpc.read(`/data/modules/${entry.path}`)])
        if (!ours.equals(theirs)) throw new Error(`${entry.path} differs over gRPC`)
      })
      grpc.close()
      say('gRPC', begun, `${files.length} files equal`)
    },
    patient,
  )

  it(
    'moves and goes in one change each, and comes out equal',
    async () => {
      const before = await revision()
      await timed(['mv', '/data/modules', '/data/moved'])
      expect(await revision()).toBe(before + 1)
      const copy = join(folder, 'copy')
      await timed(['export', '/data/moved', copy])
      execFileSync('diff', ['-r', '--no-dereference', modules, copy])
      expect(await timed(['diff', copy, '/data/moved'])).toMatch(/^equal/)
      await timed(['rm', '-r', '/data/moved'])
      expect(await revision()).toBe(before + 2)
      expect(await node.ok(['ls', '/data'])).toBe('')
    },
    patient,
  )
})

/** Revision of the store, as HTTP tells it. */
async function revision(): Promise<number> {
  const response = await fetch(`http://${node.ready.http}/v1/fs/data?stat`, { headers: { authorization: `Bearer ${node.token}` } })
  return Number(response.headers.get('nine-revision'))
}

async function forEach<T>(items: readonly T[], job: (item: T) => Promise<void>): Promise<void> {
  const jobs = new InFlight(32)
  for (const item of items) await jobs.add(() => job(item))
  await jobs.settle()
}

function overHttp(agent: Agent, path: string): Promise<Buffer> {
  const target = `/v1/fs/data/modules/${path.split('/').map(encodeURIComponent).join('/')}`
  const [host, port] = node.ready.http.split(':')
  return new Promise((resolve, reject) => {
    const asked = request({ agent, host, port, path: target, headers: { authorization: `Bearer ${node.token}` } }, (response) => {
      const parts: Buffer[] = []
      response.on('data', (part: Buffer) => parts.push(part))
      response.on('error', reject)
      response.on('end', () =>
        response.statusCode === 200 ? resolve(Buffer.concat(parts)) : reject(new Error(`${path}: ${response.statusCode}`)),
      )
    })
    asked.on('error', reject)
    asked.end()
  })
}

interface ReadResponse {
  readonly data: Buffer
  readonly stat: { readonly size: string }
}

/** A plain gRPC client made of the .proto alone, as any language would have it. */
function openGrpc(): { read(path: string): Promise<Buffer>; close(): void } {
  const definition = loadSync('nine/v1/namespace.proto', {
    includeDirs: [join(root, 'proto')],
    defaults: true,
    longs: String,
    keepCase: true,
  })
  const { nine } = loadPackageDefinition(definition) as unknown as {
    nine: { v1: { Namespace: new (address: string, with_: unknown) => Client } }
  }
  const client = new nine.v1.Namespace(node.ready.grpc, credentials.createInsecure()) as Client & {
    Read(request: object, metadata: Metadata, done: (error: ServiceError | null, answer: ReadResponse) => void): void
  }
  const metadata = new Metadata()
  metadata.set('authorization', `Bearer ${node.token}`)
  const part = (path: string, offset: number): Promise<ReadResponse> =>
    new Promise((resolve, reject) => {
      client.Read({ path, offset }, metadata, (error, answer) => (error === null ? resolve(answer) : reject(error)))
    })
  return {
    read: async (path) => {
      const parts: Buffer[] = []
      for (let size = 0; ;) {
        const answer = await part(path, size)
        parts.push(answer.data)
        size += answer.data.length
        if (size >= Number(answer.stat.size)) return Buffer.concat(parts)
      }
    },
    close: () => client.close(),
  }
}
