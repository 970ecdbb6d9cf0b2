/**
 * What a node's log says of its cluster, for whoever reads it at night.
 *
 * E1 One line a fact: what changed of many stores at once is one line with their names, a peer that is lost is said once until it is back.
 * E2 `warn` is what needs eyes, and lasts; what a restart or an election brings with it is `info`. Stacks stand only with what should not happen.
 * E3 Whatever peers and strangers do, a peer gets at most `lines_max` lines in `window_ms`, and one more that says how much was left out.
 */
import { isNineError, textOf } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { PeerEvent } from '../peer/ports.ts'

export interface Logger {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

type Level = keyof Logger

const window_ms = 60_000
const lines_max = 6
const names_max = 10
/** Peers, and strangers by their host. */
const peers_max = 256
/** A failure that is tried again and stays the same is said again after this time. */
const repeat_ms = 600_000

interface Peer {
  since: number
  lines: number
  left: number
  /** When it was lost, or could first not be reached; undefined while it is connected. */
  lostAt: number | undefined
  reason: string
  /** Whether that was said at `warn`. */
  isWarned: boolean
}

export class ClusterLog {
  readonly #logger: Logger
  /** Monotonic milliseconds. */
  readonly #now: () => number
  readonly #peers = new Map<string, Peer>()
  /** Lines about stores that wait for others alike: by what they say. */
  #gathered = new Map<string, { readonly level: Level; readonly fields: object; readonly message: string; readonly stores: string[] }>()
  readonly #failures = new Map<string, { readonly text: string; readonly at: number }>()

  constructor(logger: Logger, now: () => number) {
    this.#logger = logger
    this.#now = now
  }

  /** Of a store; comes out with the next flush(), together with what is alike of other stores. E1 */
  store(level: Level, store: string, fields: object, message: string): void {
    const key = `${level} ${message} ${JSON.stringify(fields)}`
    const known = this.#gathered.get(key)
    if (known === undefined) this.#gathered.set(key, { level, fields, message, stores: [store] })
    else known.stores.push(store)
  }

  peer({ event, peer, error }: PeerEvent): void {
    const reason = error?.message ?? ''
    const known = this.#peerOf(peer)
    if (event === 'connected') this.#connected(peer, known)
    else if (event === 'lost' || event === 'unreachable') this.#lost(peer, known, event, reason, isOfNetwork(error))
    else if (event === 'fault') this.#say('error', peer, known, { err: error }, 'a part of this node failed on what a peer sent')
    else this.#say('warn', peer, known, { reason }, event === 'refused' ? 'refused a connection' : 'ended a connection that made no sense')
  }

  /** Something failed that is tried again. */
  retried(what: string, error: unknown): void {
    const now = this.#now()
    const text = textOf(error)
    const last = this.#failures.get(what)
    if (last?.text === text && now - last.at < repeat_ms) return
    this.#failures.set(what, { text, at: now })
    const message = `${what} and will be tried again`
    if (isNineError(error) && error.retryable) this.#logger.info({ reason: text }, message)
    else this.#logger.warn({ err: error }, message)
  }

  /** Now and then: what has gathered, and what has lasted. */
  flush(): void {
    const gathered = this.#gathered
    this.#gathered = new Map()
    for (const { level, fields, message, stores } of gathered.values()) {
      const names = stores.sort().slice(0, names_max)
      const more = stores.length > names.length ? { more: stores.length - names.length } : {}
      this.#logger[level]({ stores: names, ...more, ...fields }, message)
    }
    const now = this.#now()
    for (const [peer, known] of this.#peers) {
      if (known.lostAt !== undefined && !known.isWarned && now - known.lostAt > limits.raft_leaderless_ms_max) {
        known.isWarned = true // E2
        this.#say('warn', peer, known, { reason: known.reason }, 'a peer cannot be reached')
      }
      if (now - known.since <= window_ms) continue
      const { left } = known
      Object.assign(known, { since: now, lines: 0, left: 0 })
      if (left > 0) this.#logger.warn({ peer, left, seconds: window_ms / 1000 }, 'lines about a peer were left out: it comes and goes')
      else if (known.lostAt === undefined) this.#peers.delete(peer)
    }
  }

  #connected(peer: string, known: Peer): void {
    const { lostAt } = known
    known.lostAt = undefined
    if (lostAt === undefined) return this.#say('info', peer, known, {}, 'a peer is connected')
    this.#say('info', peer, known, { afterMs: Math.round(this.#now() - lostAt) }, 'a peer is connected')
  }

  /** Lost, and then not reached: one fact. E1 */
  #lost(peer: string, known: Peer, event: 'lost' | 'unreachable', reason: string, isPassing: boolean): void {
    known.reason = reason
    const isSaid = known.lostAt !== undefined
    known.lostAt ??= this.#now()
    if (isSaid && (isPassing || known.isWarned)) return
    known.isWarned = event === 'lost' || !isPassing
    this.#say(known.isWarned ? 'warn' : 'info', peer, known, { reason }, event === 'lost' ? 'a peer was lost' : 'a peer cannot be reached')
  }

  /** E3 */
  #say(level: Level, peer: string, known: Peer, fields: object, message: string): void {
    if (known.lines >= lines_max) {
      known.left++
      return
    }
    known.lines++
    this.#logger[level]({ peer, ...fields }, message)
  }

  #peerOf(peer: string): Peer {
    const known = this.#peers.get(peer)
    if (known !== undefined) return known
    // Many strangers share the lines of one.
    if (this.#peers.size >= peers_max && peer !== 'others') return this.#peerOf('others')
    const fresh = { since: this.#now(), lines: 0, left: 0, lostAt: undefined, reason: '', isWarned: false }
    this.#peers.set(peer, fresh)
    return fresh
  }
}

/** What a network and processes that come and go bring with them; anything else does not get better by itself. */
function isOfNetwork(error: unknown): boolean {
  return isNineError(error) && error.retryable
}
