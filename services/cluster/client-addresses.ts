/**
 * Where nodes listen for clients, as records of the store `sys`: /cluster/clients/<node> {grpc}. Each node writes its own, and follows
 * the others' through its own copy, without asking anybody.
 */
import { z } from 'zod'
import type { Context } from '../../namespace/context.ts'
import { isNineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { joinName } from '../../namespace/path.ts'
import { pause } from './founding.ts'
import { clusterFolder, decodeRecord, encodeRecord } from './records.ts'

export interface ClientAddress {
  /** Name of the node. */
  readonly name: string
  /** `HOST:PORT` */
  readonly address: string
}

export interface ClientAddressesParts {
  readonly sys: FileServer
  /** As the node itself. */
  readonly context: () => Context
  warn(error: unknown): void
}

const folder = joinName(clusterFolder, 'clients')
const record = z.object({ grpc: z.string().min(1).max(limits.attribute_bytes_max) })
const again_ms = 500

export class ClientAddresses {
  readonly #parts: ClientAddressesParts
  readonly #stop = new AbortController()
  #all: readonly ClientAddress[] = []
  #running: Promise<unknown> | undefined

  constructor(parts: ClientAddressesParts) {
    this.#parts = parts
  }

  /** As this node last heard; a new array with each change. */
  get all(): readonly ClientAddress[] {
    return this.#all
  }

  /** Tell the others of this node, and follow what they tell. Both go on in the background until close(). */
  start(own: ClientAddress): void {
    this.#running ??= Promise.all([this.#again(() => this.#tell(own), true), this.#again(() => this.#follow(), false)])
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#running
  }

  /** With the signal: a close does not wait out what only a majority could answer. */
  #context(): Context {
    return { ...this.#parts.context(), signal: this.#stop.signal }
  }

  async #tell({ name, address }: ClientAddress): Promise<void> {
    const { sys } = this.#parts
    const path = joinName(folder, name)
    const told = await sys.read(this.#context(), path).catch((error: unknown) => {
      if (isNineError(error, 'not_found')) return undefined
      throw error
    })
    const bytes = encodeRecord({ grpc: address })
    if (told === undefined || !Buffer.from(told.bytes).equals(bytes)) await sys.write(this.#context(), path, bytes, { parents: true })
  }

  async #follow(): Promise<void> {
    const { sys } = this.#parts
    const lasting: Context = { ...this.#context(), deadline: Infinity }
    this.#all = await this.#load() // The watch begins only with a leader.
    let isFirst = true
    // The first batch comes at once: what is loaded then is not older than what the watch begins with.
    for await (const { events } of sys.watch(lasting, folder, { statsOnly: true })) {
      if (isFirst || events.length > 0) this.#all = await this.#load()
      isFirst = false
    }
  }

  async #load(): Promise<ClientAddress[]> {
    const { sys } = this.#parts
    const found: ClientAddress[] = []
    try {
      const { entries, position: at } = await sys.list(this.#context(), folder, { consistency: 'stale' })
      for (const { name } of entries) {
        const path = joinName(folder, name)
        const { bytes } = await sys.read(this.#context(), path, { at })
        found.push({ name, address: decodeRecord(record, bytes, path).grpc })
      }
    } catch (error) {
      if (!isNineError(error, 'not_found')) throw error
    }
    return found
  }

  async #again(run: () => Promise<void>, isOnce: boolean): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      try {
        await run()
        if (isOnce) return
      } catch (error) {
        if (!signal.aborted) this.#parts.warn(error)
      }
      await pause(again_ms, signal)
    }
  }
}
