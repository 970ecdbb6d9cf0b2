/** The gRPC surface as a stranger uses it: a plain grpc-js client with generated code, reflection and health. */
import { credentials, Metadata, status } from '@grpc/grpc-js'
import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { parsePath } from '../../namespace/path.ts'
import { grpcFailure } from '../../namespace/wire/grpc-status.ts'
import { loadSync } from '@grpc/proto-loader'
import { makeGenericClientConstructor } from '@grpc/grpc-js'
import { createRequire } from 'node:module'
import { join, dirname } from 'node:path'
import { NamespaceClient } from '../../proto/gen/nine/v1/namespace.ts'
import type {
  CreateRequest,
  ListResponse,
  MutationResponse,
  ReadRequest,
  ReadResponse,
  StatRequest,
  WatchBatch,
  WatchRequest,
  WriteRequest,
} from '../../proto/gen/nine/v1/namespace.ts'
import { overriding, owner, startNode, tokenOf } from './node.ts'
import type { TestNode } from './node.ts'

let memory: MemoryServer
let node: TestNode
let client: NamespaceClient
const metadata = new Metadata()
metadata.set('authorization', `Bearer ${tokenOf(owner)}`)

beforeAll(async () => {
  memory = new MemoryServer({ owner: owner.name })
  node = await startNode(memory)
  client = new NamespaceClient(node.edge.address, credentials.createInsecure())
})

afterAll(async () => {
  client.close()
  await node.close()
  memory.close()
})

const at = (path: string): StatRequest => ({ context: undefined, path, view: undefined })
const readOf = (path: string): ReadRequest => ({ context: undefined, path, view: undefined, offset: undefined, length: undefined })
const writeOf = (path: string, data: Uint8Array): WriteRequest => ({
  context: undefined,
  path,
  options: undefined,
  at: undefined,
  mustExist: false,
  data: Buffer.from(data),
})

type Callback<Answer> = (error: ServiceError | null, answer: Answer) => void

/** One unary call as a promise. */
function call<Answer>(make: (metadata: Metadata, callback: Callback<Answer>) => unknown, given = metadata): Promise<Answer> {
  return new Promise((resolve, reject) => make(given, (error, answer) => (error === null ? resolve(answer) : reject(error))))
}

describe('gRPC', () => {
  it('reads and writes', async () => {
    const written: MutationResponse = await call((given, done) => client.write(writeOf('/a', Buffer.from('value')), given, done))
    expect(written.created).toBe(true)
    const read: ReadResponse = await call((given, done) => client.read(readOf('/a'), given, done))
    expect(read.data.toString()).toBe('value')
    expect(read.stat?.qid).toEqual(written.qid)
    const made: CreateRequest = { context: undefined, path: '/dir', options: undefined }
    await call((given, done) => client.mkdir(made, given, done))
    const list: ListResponse = await call((given, done) =>
      client.list(
        {
          context: undefined,
          path: '/',
          view: undefined,
          after: undefined,
          cursor: undefined,
          limit: undefined,
          maxBytes: undefined,
          recursive: false,
          prefix: undefined,
        },
        given,
        done,
      ),
    )
    expect(list.entries.map(({ name }) => name)).toEqual(['a', 'dir'])
  })

  it('answers failures with their code, and all of them in the trailer', async () => {
    const error = (await call((given, done) => client.stat(at('/missing'), given, done)).catch((reason: unknown) => reason)) as ServiceError
    expect(error.code).toBe(status.NOT_FOUND)
    expect(grpcFailure(error, 'test')).toMatchObject({ kind: 'not_found', path: '/missing', outcome: 'none' })
    const invalid = (await call((given, done) => client.stat(at('relative'), given, done)).catch(
      (reason: unknown) => reason,
    )) as ServiceError
    expect(invalid.code).toBe(status.INVALID_ARGUMENT)
  })

  it('refuses who has no token, or a wrong one', async () => {
    const wrong = new Metadata()
    wrong.set('authorization', 'Bearer wrong')
    for (const given of [new Metadata(), wrong]) {
      const error = (await call((given, done) => client.stat(at('/'), given, done), given).catch(
        (reason: unknown) => reason,
      )) as ServiceError
      expect(error.code).toBe(status.UNAUTHENTICATED)
    }
    await expect(node.connect({ transport: 'grpc', token: 'wrong' })).rejects.toMatchObject({ kind: 'unauthenticated' })
    await expect(node.connect({ transport: 'tcp', token: 'wrong' })).rejects.toMatchObject({ kind: 'unauthenticated' })
  })

  it('streams a large file in and out', async () => {
    const data = Buffer.alloc(3_000_000, 'abcdefg')
    const written = await new Promise<MutationResponse>((resolve, reject) => {
      const stream = client.writeStream(metadata, (error, answer) => (error === null ? resolve(answer) : reject(error)))
      stream.write({ begin: writeOf('/large', Buffer.alloc(0)), data: Buffer.alloc(0), last: false })
      for (let start = 0; start < data.length; start += 500_000) {
        stream.write({ begin: undefined, data: data.subarray(start, start + 500_000), last: start + 500_000 >= data.length })
      }
      stream.end()
    })
    expect(written.size).toBe(data.length)
    const parts: Buffer[] = []
    for await (const part of client.readStream(readOf('/large'), metadata) as AsyncIterable<ReadResponse>) parts.push(part.data)
    expect(Buffer.concat(parts).equals(data)).toBe(true)
    expect(parts.length).toBeGreaterThan(1)
  })

  it('drops what was streamed in when the call ends or is cancelled before its last message', async () => {
    for (const end of ['cancel', 'end'] as const) {
      let closed: (how: unknown) => void = () => undefined
      const howClosed = new Promise((resolve) => (closed = resolve))
      let begun: () => void = () => undefined
      const staged = new Promise<void>((resolve) => (begun = resolve))
      const observed = overriding(memory, {
        writeHandle: async (...args) => {
          const result = await memory.writeHandle(...args)
          begun()
          return result
        },
        closeHandle: async (context, handle, options) => {
          const result = await memory.closeHandle(context, handle, options)
          closed(options)
          return result
        },
      })
      const other = await startNode(observed)
      const uploader = new NamespaceClient(other.edge.address, credentials.createInsecure())
      const error = await new Promise<ServiceError | null>((resolve) => {
        const stream = uploader.writeStream(metadata, resolve)
        stream.write({ begin: writeOf('/dropped', Buffer.from('x')), data: Buffer.alloc(0), last: false })
        void staged.then(() => stream[end]())
      })
      expect(error).not.toBeNull()
      if (end === 'end') expect(error?.code).toBe(status.INVALID_ARGUMENT)
      expect(await howClosed).toEqual({ discard: true })
      await expect(memory.stat(contextFor(owner), parsePath('/dropped'))).rejects.toMatchObject({ kind: 'not_found' })
      uploader.close()
      await other.close()
    }
  })

  it('watches', async () => {
    const request: WatchRequest = {
      context: undefined,
      path: '/',
      recursive: true,
      from: { $case: 'fromRevision', value: 1 },
      statsOnly: true,
      previous: false,
      credit: 0,
    }
    const stream = client.watch(request, metadata)
    const seen: string[] = []
    await memory.write(contextFor(owner), parsePath('/watched'), Buffer.from('x'))
    for await (const batch of stream as AsyncIterable<WatchBatch>) {
      seen.push(...batch.events.map(({ path }) => path))
      if (seen.includes('/watched')) break
    }
    expect(seen).toContain('/a')
  })

  it('tells its health and describes itself', async () => {
    const require = createRequire(import.meta.url)
    const health = loadSync('health/v1/health.proto', {
      includeDirs: [join(dirname(require.resolve('grpc-health-check')), '..', '..', 'proto')],
    })
    const Health = makeGenericClientConstructor(health['grpc.health.v1.Health'] as never, 'Health')
    const checker = new Health(node.edge.address, credentials.createInsecure())
    const answer = await new Promise<{ status: unknown }>((resolve, reject) => {
      const check = checker.Check as unknown as (
        request: object,
        callback: (error: Error | null, answer: { status: unknown }) => void,
      ) => void
      check.call(checker, { service: 'nine.v1.Namespace' }, (error, given) => (error === null ? resolve(given) : reject(error)))
    })
    expect(answer.status).toBe(1)
    checker.close()
    const root = join(dirname(require.resolve('@grpc/reflection')), '..', 'proto', 'grpc')
    const reflection = loadSync('reflection/v1/reflection.proto', { includeDirs: [root] })
    const Reflection = makeGenericClientConstructor(reflection['grpc.reflection.v1.ServerReflection'] as never, 'ServerReflection')
    const asker = new Reflection(node.edge.address, credentials.createInsecure())
    const info = asker.ServerReflectionInfo as unknown as () => ClientDuplexStream<
      object,
      { listServicesResponse: { service: { name: string }[] } }
    >
    const stream = info.call(asker)
    stream.write({ listServices: '' })
    const first = await new Promise<{ listServicesResponse: { service: { name: string }[] } }>((resolve, reject) => {
      stream.once('data', resolve)
      stream.once('error', reject)
    })
    stream.end()
    asker.close()
    expect(first.listServicesResponse.service.map(({ name }) => name)).toContain('nine.v1.Namespace')
  })
})
