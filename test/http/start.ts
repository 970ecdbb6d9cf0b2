/** A real edge over a real tree in memory, with two principals and their real tokens. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { contextFor } from '../../namespace/context.ts'
import type { Context } from '../../namespace/context.ts'
import type { NineError } from '../../namespace/errors.ts'
import type { FileServer, WatchBatch } from '../../namespace/file-server.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import type { MemoryServerOptions } from '../../namespace/memory/memory-server.ts'
import { startHttpEdge } from '../../services/http/edge.ts'
import type { HttpEdge, HttpEdgeOptions } from '../../services/http/edge.ts'
import { Identity } from '../../services/identity/identity.ts'

export interface Started {
  readonly edge: HttpEdge
  readonly port: number
  readonly origin: string
  /** The tree behind the edge, for looking past it. */
  readonly memory: MemoryServer
  readonly owner: string
  readonly guest: string
  readonly identity: Identity
  readonly context: () => Context
  /** Watches that the edge has open on the tree. */
  readonly openWatches: () => number
  /** Failures that the edge called its own. */
  readonly reported: NineError[]
  readonly observed: { readonly method: string; readonly status: number; readonly seconds: number }[]
  /** A request of the owner. `path` is a target as it is sent, below /v1/fs. */
  fetch(path: string, init?: RequestInit & { readonly duplex?: 'half' }): Promise<Response>
  close(): Promise<void>
}

export interface StartOptions extends Partial<HttpEdgeOptions> {
  readonly memory?: Partial<MemoryServerOptions>
  /** What stands between the edge and the tree. */
  readonly wrap?: (server: FileServer) => FileServer
}

export async function startEdge({ memory: memoryOptions, wrap = (server) => server, ...options }: StartOptions = {}): Promise<Started> {
  const dir = await mkdtemp(join(tmpdir(), 'nine-http-'))
  const identity = await Identity.open({ dir, ownerName: 'owner' })
  const owner = (await readFile(identity.tokenFile, 'utf8')).trim()
  const { token: guest } = await identity.issue('guest', ['readers'])
  const memory = new MemoryServer({ owner: 'owner', ...memoryOptions })
  const counted = new CountedWatches(memory)
  const served = wrap(counted.server)
  const reported: NineError[] = []
  const observed: Started['observed'] = []
  const edge = await startHttpEdge({
    host: '127.0.0.1',
    port: 0,
    authenticate: (token) => identity.authenticate(token),
    namespaceOf: () => Promise.resolve(served),
    session: 1,
    isReady: () => true,
    metrics: () => Promise.resolve({ text: 'nine_up 1\n', contentType: 'text/plain; version=0.0.4' }),
    observe: (row) => observed.push(row),
    report: (error) => reported.push(error),
    ...options,
  })
  const port = Number(edge.address.split(':').at(-1))
  const origin = `${options.tls === undefined ? 'http' : 'https'}://${edge.address}`
  return {
    edge,
    port,
    origin,
    memory,
    owner,
    guest,
    identity,
    context: () => contextFor(identity.owner),
    openWatches: () => counted.open,
    reported,
    observed,
    fetch: (path, init = {}) =>
      fetch(`${origin}/v1/fs${path}`, {
        ...init,
        headers: { authorization: `Bearer ${owner}`, ...(init.headers as Record<string, string>) },
      }),
    close: async () => {
      await edge.close(0)
      memory.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** The same tree, with its open watches counted. */
class CountedWatches {
  open = 0
  readonly server: FileServer

  constructor(inner: FileServer) {
    const watch = (...args: Parameters<FileServer['watch']>): AsyncIterable<WatchBatch> => ({
      [Symbol.asyncIterator]: () => this.#count(inner.watch(...args)[Symbol.asyncIterator]()),
    })
    this.server = new Proxy(inner, {
      get: (target, name) => {
        if (name === 'watch') return watch
        const value: unknown = Reflect.get(target, name, target)
        return typeof value === 'function' ? (value.bind(target) as unknown) : value
      },
    })
  }

  #count(iterator: AsyncIterator<WatchBatch>): AsyncIterator<WatchBatch> {
    this.open++
    let isOpen = true
    const ended = (): void => {
      if (isOpen) this.open--
      isOpen = false
    }
    return {
      next: async () => {
        try {
          const step = await iterator.next()
          if (step.done === true) ended()
          return step
        } catch (error) {
          ended()
          throw error
        }
      },
      return: async () => {
        ended()
        await iterator.return?.()
        return { done: true, value: undefined }
      },
    }
  }
}
