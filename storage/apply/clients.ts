/**
 * Exactly once: what each client was answered, for as long as it may ask again.
 *
 * X1 A result is kept until its client says that it has it (`settled`). A retry is answered with it and not executed.
 * X2 What was not executed is not kept, so that the same seq can be executed later: `needs_chunks`, and errors that
 *    say "try again" (nothing was changed by them either).
 * X3 The client idle longest is forgotten when there are too many, or their results take too much. `horizon` is the latest
 *    time at which a forgotten client can have been active; an unknown client born up to then may be one of them, so its
 *    mutation has the outcome `unknown`. Both times are raised to the client's own birth, which another clock gave.
 * X4 The same number with another request, or from another principal, is `invalid`.
 * X5 A client without a birth (`Number.MAX_SAFE_INTEGER`: a key of HTTP, good for one mutation) is only ever known by its id:
 *    forgotten, it is a new one. It shares no id with the others, and makes room before any of them does.
 */
import { errorTable, type NineErrorFields } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Micros } from '../../namespace/stat.ts'
import { contentSize, type Entry, type Outcome } from '../model.ts'
import { ByteReader } from './byte-reader.ts'
import type { ByteWriter } from './byte-writer.ts'
import { DirtyKeys } from './dirty.ts'
import { KeptResults } from './kept-results.ts'
import { readOutcome, writeOutcome } from './outcome-codec.ts'

const op = 'apply.once'

interface Client {
  readonly id: string
  /** Its key in the table and in what is saved. */
  readonly key: string
  readonly born: Micros
  settled: number
  /** Time of the last entry it sent; unique among clients. */
  usedAt: Micros
  /** All above `settled`. */
  readonly results: KeptResults
  /** Generation of the dirty keys in which it was noted last. */
  notedIn: number
}

export class ClientTable {
  /** By key, the client idle longest first. */
  readonly #clients = new Map<string, Client>()
  /** Those without a birth. X5 */
  readonly #unborn = new Map<string, Client>()
  readonly #dirty = new DirtyKeys()
  /** The client of the entry being applied. */
  #current: Client | undefined
  /** The last one used, which is the last of its map. */
  #newest: Client | undefined
  #bytes = 0
  /** X3; -1 while none was forgotten. */
  horizon: Micros = -1

  get size(): number {
    return this.#clients.size + this.#unborn.size
  }

  /**
   * Before an entry is executed: the answer it must have instead, or undefined to execute it and then `record`.
   * Also takes note of what the client has settled.
   */
  admit(entry: Entry): Outcome | undefined {
    const { client: identity, seq } = entry
    this.#current = undefined
    if (identity === undefined || seq === undefined) return undefined
    const { id, born, settled } = identity
    if (!isCount(seq) || seq === 0 || !isCount(settled) || !isCount(born) || id === '' || id.length > limits.attribute_bytes_max) {
      return failure('invalid', 'a client has a short id, a birth, and whole numbers from 1 for its mutations')
    }
    const clients = this.#mapOf(born)
    // Who asks many times in a row is not looked for each time.
    const newest = this.#newest
    const isNewest = newest !== undefined && newest.id === id && (newest.born === unborn) === (born === unborn)
    const key = isNewest ? newest.key : keyOf(id, born)
    let client = isNewest ? newest : clients.get(key)
    if (client === undefined) {
      if (born <= this.horizon) {
        return lost('this client is not known to the store, which may have forgotten it: whether the change happened before is unknown')
      }
      client = { id, key, born, settled, usedAt: entry.time, results: new KeptResults(), notedIn: 0 }
      clients.set(key, client)
    } else {
      client.usedAt = entry.time
      if (this.#newest !== client) {
        clients.delete(key)
        clients.set(key, client)
      }
      if (settled > client.settled) this.#settle(client, settled)
    }
    this.#newest = client
    this.#note(client)
    this.#forget(client)
    if (seq <= client.settled)
      return lost(`the result of mutation ${seq} of this client is no longer kept: it has settled it, or the store was restored since`)
    const kept = client.results.get(seq)
    if (kept !== undefined) {
      if (kept.digest === entry.digest && kept.actor === entry.actor) return kept.outcome // X1
      return failure('invalid', `mutation ${seq} of this client was another request`) // X4
    }
    if (client.results.size >= limits.client_results_max || client.results.bytes >= limits.client_results_bytes_max) {
      return failure('overloaded', 'too many results of this client wait to be settled')
    }
    this.#current = client
    return undefined
  }

  /** After an admitted entry was executed; not called where it was not. X2 */
  record(entry: Entry, outcome: Outcome): void {
    const client = this.#current
    if (client === undefined) return
    if (outcome.kind === 'error' && (outcome.error.retryable ?? errorTable[outcome.error.kind].retryable)) return
    const bytes = sizeOfResult(outcome)
    client.results.add({ seq: entry.seq!, outcome, digest: entry.digest, actor: entry.actor, bytes })
    this.#bytes += bytes
    this.#forget(client)
  }

  #settle(client: Client, settled: number): void {
    const before = client.results.bytes
    client.results.settle(settled)
    this.#bytes += client.results.bytes - before
    client.settled = settled
  }

  /** X3, X5: never the client being served. */
  #forget(serving: Client): void {
    while (this.size > limits.clients_max || this.#bytes > limits.clients_bytes_max) {
      const oldest = idlest(this.#unborn, serving) ?? idlest(this.#clients, serving)
      if (oldest === undefined) return
      this.#mapOf(oldest.born).delete(oldest.key)
      this.#bytes -= oldest.results.bytes
      this.#dirty.add(oldest.key)
      if (oldest.born !== unborn) this.horizon = Math.max(this.horizon, oldest.usedAt, oldest.born)
    }
  }

  #mapOf(born: Micros): Map<string, Client> {
    return born === unborn ? this.#unborn : this.#clients
  }

  #note(client: Client): void {
    const { generation } = this.#dirty
    if (client.notedIn === generation) return
    client.notedIn = generation
    this.#dirty.add(client.key)
  }

  /**
   * The table of an older state that takes the store's place: what clients were answered is of the one before. What they ask again is not
   * done again, and is answered as unknown (X1, X3); all of them are to be saved. This table stays as it is.
   */
  forgotten(): ClientTable {
    const table = new ClientTable()
    table.horizon = this.horizon
    for (const client of [...this.#clients.values(), ...this.#unborn.values()]) {
      let settled = client.settled
      for (const { seq } of client.results.values()) settled = Math.max(settled, seq)
      table.#mapOf(client.born).set(client.key, { ...client, settled, results: new KeptResults(), notedIn: 0 })
      table.#dirty.add(client.key)
    }
    return table
  }

  *exportChanged(writer: ByteWriter): Iterable<[string, Uint8Array | undefined]> {
    for (const key of this.#dirty.begin()) {
      const client = this.#clients.get(key) ?? this.#unborn.get(key)
      yield [key, client === undefined ? undefined : encodeClient(writer, client)]
    }
  }

  exportSaved(): void {
    this.#dirty.saved()
  }

  /** In any order; `imported` puts them in theirs. @throws NineError `corrupt` */
  import(key: string, bytes: Uint8Array): void {
    const client = decodeClient(key, bytes)
    this.#mapOf(client.born).set(key, client)
    this.#bytes += client.results.bytes
  }

  imported(): void {
    const clients = [...this.#clients.values(), ...this.#unborn.values()].sort((a, b) => a.usedAt - b.usedAt)
    this.#clients.clear()
    this.#unborn.clear()
    for (const client of clients) this.#mapOf(client.born).set(client.key, client)
    this.#newest = clients[clients.length - 1]
  }
}

/** X5 */
const unborn = Number.MAX_SAFE_INTEGER
const bornPrefix = 'client/'
const unbornPrefix = 'key/'

function keyOf(id: string, born: Micros): string {
  return (born === unborn ? unbornPrefix : bornPrefix) + id
}

/** Whether what was saved under a key is a client. */
export function isClientKey(key: string): boolean {
  return key.startsWith(bornPrefix) || key.startsWith(unbornPrefix)
}

function idlest(clients: Map<string, Client>, serving: Client): Client | undefined {
  for (const client of clients.values()) if (client !== serving) return client
  return undefined
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}

function failure(kind: NineErrorFields['kind'], message: string): Outcome {
  return { kind: 'error', error: { kind, op, path: '', message } }
}

/** Whether a client was answered so because the store may have forgotten it. */
export function wasForgotten(outcome: Outcome): boolean {
  return outcome.kind === 'error' && outcome.error.op === op && outcome.error.outcome === 'unknown'
}

function lost(message: string): Outcome {
  return { kind: 'error', error: { kind: 'unavailable', op, path: '', message, retryable: false, outcome: 'unknown' } }
}

/** About what a kept result takes in memory, bytes. */
function sizeOfResult(outcome: Outcome): number {
  switch (outcome.kind) {
    case 'mutation':
    case 'lease':
    case 'needs_chunks':
      return 256
    case 'error':
      return 384 + outcome.error.message.length + (outcome.error.path?.length ?? 0)
    case 'txn': {
      let bytes = 256
      for (const result of outcome.result.results) {
        bytes += 256
        if (result.op !== 'mutation' && result.node.content.kind === 'inline') bytes += contentSize(result.node.content)
      }
      return bytes
    }
  }
}

function encodeClient(writer: ByteWriter, client: Client): Uint8Array {
  writer.reset()
  writer.byte(1)
  writer.count(client.born)
  writer.count(client.settled)
  writer.count(client.usedAt)
  writer.count(client.results.size)
  for (const { seq, outcome, digest, actor } of client.results.values()) {
    writer.count(seq)
    writer.text(actor)
    writer.byte(digest === undefined ? 0 : 1)
    if (digest !== undefined) writer.text(digest)
    writeOutcome(writer, outcome)
  }
  return writer.copy()
}

function decodeClient(key: string, bytes: Uint8Array): Client {
  const reader = new ByteReader(bytes, key)
  if (reader.byte() !== 1) throw reader.corrupt('its format is not known')
  const [born, settled, usedAt] = [reader.count(), reader.count(), reader.count()]
  const results = new KeptResults()
  for (let left = reader.countOfItems(); left > 0; left--) {
    const seq = reader.count()
    const actor = reader.text()
    const digest = reader.byte() === 0 ? undefined : reader.text()
    const outcome = readOutcome(reader)
    results.add({ seq, outcome, digest, actor, bytes: sizeOfResult(outcome) })
  }
  reader.end()
  return { id: key.slice(key.indexOf('/') + 1), key, born, settled, usedAt, results, notedIn: 0 }
}
