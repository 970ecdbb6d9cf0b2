/** /sys: the node itself as files, and /blob: chunks of large values by hash. */
import { NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import type { Principal } from '../../namespace/rights.ts'
import { computed, directory } from '../../namespace/serve/entries.ts'
import type { Call, ComputedEntry } from '../../namespace/serve/entries.ts'
import { serveTable } from '../../namespace/serve/table-server.ts'
import type { BlobStore, ChunkHash } from '../../storage/blob/store.ts'
import type { Engine } from '../../storage/engine/engine.ts'
import type { Identity } from '../identity/identity.ts'
import type { Services } from '../svc/services.ts'
import type { Backups } from './backups.ts'
import type { Metrics } from './metrics.ts'

export interface SysParts {
  readonly version: string
  readonly name: string
  readonly engine: Engine
  readonly services: Services
  readonly identity: Identity
  readonly metrics: Metrics
  readonly backups: Backups
  readonly sessions: () => number
  readonly upSince: string
}

export function sysTree(parts: SysParts): FileServer {
  const { engine, services, identity, metrics } = parts
  const owned = (run: () => object | string | Promise<string>): ComputedEntry =>
    computed((call) => (checkOwner(call, identity.owner), run()))
  return serveTable({
    version: computed(() => `${parts.version}\n`),
    name: computed(() => `${parts.name}\n`),
    whoami: computed(({ principal }) => ({ name: principal.name, groups: principal.groups })),
    status: owned(() => ({
      name: parts.name,
      version: parts.version,
      pid: process.pid,
      upSince: parts.upSince,
      sessions: parts.sessions(),
      services: services.count,
      residentBytes: process.memoryUsage.rss(),
      engine: engine.status(),
    })),
    metrics: owned(async () => (await metrics.text()).text),
    principals: owned(() => identity.list()),
    stores: directory({
      list: () => engine.status().stores.map((store) => store.name),
      lookup: (_call, name) => {
        const found = engine.status().stores.find((store) => store.name === name)
        return found === undefined ? undefined : owned(() => found)
      },
    }),
    backup: parts.backups.directory((call) => checkOwner(call, identity.owner)),
  })
}

function isChunkHash(name: string): name is ChunkHash {
  return /^[0-9a-f]{64}$/.test(name)
}

/** Chunks go around the rights of the files they belong to, so they are the owner's to see. */
export function blobTree(blobs: BlobStore, owner: Principal): FileServer {
  return serveTable({
    stats: computed((call) => (checkOwner(call, owner), blobs.stats())),
    chunks: directory({
      // Millions of names help nobody; a chunk is found by the hash that its file's stat or index names.
      list: () => [],
      lookup: async (call, name) => {
        checkOwner(call, owner)
        if (!isChunkHash(name) || !(await blobs.has(name))) return undefined
        return computed(() => blobs.get(name))
      },
    }),
  })
}

function checkOwner({ principal, path }: Call, owner: Principal): void {
  if (principal.name === owner.name) return
  throw new NineError({ kind: 'denied', op: 'node.sys', path, message: `this is for the owner of the node, ${owner.name}` })
}
