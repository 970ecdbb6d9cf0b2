/** A 9P edge over a real store at /data and a table of functions at /svc/test and, once more, at /svc/twin: what the tests of 9P connect to. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { contextFor } from '../../namespace/context.ts'
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { Namespace } from '../../namespace/namespace.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Principal } from '../../namespace/rights.ts'
import { serveTable } from '../../namespace/serve/table-server.ts'
import type { Table } from '../../namespace/serve/entries.ts'
import { startNinepEdge } from '../../services/9p/edge.ts'
import type { NinepEdge, NinepListener } from '../../services/9p/edge.ts'
import type { NinepLimits } from '../../services/9p/limits.ts'
import { openEngine } from '../../storage/engine/engine.ts'
import { Gate } from './gate.ts'

export const owner: Principal = { name: 'owner', groups: [] }
export const guest: Principal = { name: 'guest', groups: [] }
export const tokens: Record<string, Principal> = { 'owners-token': owner, 'guests-token': guest }

export interface TestEdge {
  readonly edge: NinepEdge
  /** `HOST:PORT` of the first listener. */
  readonly address: string
  readonly namespace: FileServer
  readonly store: FileServer & { readonly openHandles: number }
  /** Why connections were cut, oldest first. */
  readonly log: NineError[]
  /** Of the owner. */
  readonly context: () => Context
  /** What stands at a path of the store, as text. */
  text(path: string): Promise<string>
  close(): Promise<void>
}

export async function startEdge({
  listeners,
  table = {},
  limits,
  gate = new Gate(),
}: {
  readonly listeners?: readonly NinepListener[]
  readonly table?: Table
  readonly limits?: Partial<NinepLimits>
  /** Holds operations of the namespace, and `namespaceOf`. */
  readonly gate?: Gate
} = {}): Promise<TestEdge> {
  const dir = mkdtempSync(join(tmpdir(), 'nine-9p-'))
  const engine = await openEngine({ dir, owner: owner.name })
  const store = await engine.createStore('data')
  const context = (): Context => contextFor(owner, 20_000)
  const namespace = new Namespace()
  await namespace.mount(context(), store, parsePath('/data'))
  for (const name of ['test', 'twin']) await namespace.mount(context(), serveTable(table), parsePath(`/svc/${name}`))
  const log: NineError[] = []
  const gated = gate.over(namespace)
  let sessions = 0
  const edge = await startNinepEdge({
    listeners: listeners ?? [{ address: { host: '127.0.0.1', port: 0 }, trusted: owner }],
    authenticate: (token) => {
      const principal = tokens[token ?? '']
      if (principal !== undefined) return principal
      throw new NineError({ kind: 'unauthenticated', op: 'test.authenticate', message: 'nobody has this token' })
    },
    namespaceOf: async () => {
      await gate.pass('namespaceOf')
      return gated
    },
    nextSession: () => ++sessions,
    limits,
    space: async () => ({ type: 1, bsize: 4096, blocks: 100, bfree: 50, bavail: 40, files: 10, ffree: 5, fsid: 0, namelen: 255 }),
    log: ({ error }) => log.push(error),
  })
  return {
    edge,
    address: edge.addresses[0]!,
    namespace,
    store,
    log,
    context,
    text: async (path) => Buffer.from((await store.read(context(), parsePath(path))).bytes).toString(),
    close: async () => {
      await edge.close(1_000)
      await engine.close()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
