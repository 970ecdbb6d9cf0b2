/**
 * What a node remembers of services when none of their processes is up: who owns the name, which top-level names they
 * serve, what they mount. Kept as one JSON file a service in a file server, so that it is as durable as any file.
 */
import { z } from 'zod'
import type { Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { joinName, parsePath } from '../../namespace/path.ts'

const record = z.object({
  service: z.string(),
  owner: z.string(),
  names: z.array(z.string()).max(limits.service_names_max),
  namespace: z.string(),
  hasStore: z.boolean(),
})

export type ServiceRecord = z.infer<typeof record>

const folder = parsePath('/services')
/** What this node has: a node that reaches no other starts all the same, and what it lacks comes as a change. */
const stale = { consistency: 'stale' } as const

export class Catalog {
  readonly #server: FileServer
  /** As the node itself. */
  readonly #context: () => Context

  constructor(server: FileServer, context: () => Context) {
    this.#server = server
    this.#context = context
  }

  /** All records. A damaged one is left out and named in `onDamaged`. */
  async load(onDamaged: (service: string, error: unknown) => void): Promise<ServiceRecord[]> {
    const found: ServiceRecord[] = []
    let cursor: string | undefined
    do {
      const page = await this.#listPage(cursor)
      for (const { name } of page.entries) {
        try {
          const { bytes } = await this.#server.read(this.#context(), joinName(folder, name), stale)
          found.push(record.parse(JSON.parse(Buffer.from(bytes).toString())))
        } catch (error) {
          onDamaged(name, error)
        }
      }
      cursor = page.next
    } while (cursor !== undefined)
    return found
  }

  /** Records that change from now on, also by other nodes of a cluster, as they are then; until the signal aborts or the watch ends. */
  async *changes(signal: AbortSignal): AsyncIterable<ServiceRecord> {
    const context = { ...this.#context(), deadline: Infinity, signal }
    for await (const { events } of this.#server.watch(context, folder, { statsOnly: true })) {
      for (const { type, stat } of events) {
        if (type === 'remove' || stat.kind !== 'file') continue
        const { bytes } = await this.#server.read(this.#context(), joinName(folder, stat.name), stale)
        yield record.parse(JSON.parse(Buffer.from(bytes).toString()))
      }
    }
  }

  async save(row: ServiceRecord): Promise<void> {
    const bytes = Buffer.from(JSON.stringify(row))
    if (bytes.length > limits.write_bytes_max) {
      throw new NineError({ kind: 'too_large', op: 'svc.register', message: `the names of ${row.service} are too long together` })
    }
    await this.#server.write(this.#context(), joinName(folder, row.service), bytes, { parents: true })
  }

  async #listPage(cursor: string | undefined) {
    try {
      return await this.#server.list(this.#context(), folder, { cursor, ...stale })
    } catch (error) {
      if (isNineError(error, 'not_found')) return { entries: [], next: undefined }
      throw error
    }
  }
}
