/**
 * A client that takes locks, keeps them for a while by renewing their leases, looks whether they are its own, and lets go, or just stops.
 * Each taking is recorded with the time for which it surely has the lock.
 */
import { isNineError } from '../../namespace/errors.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Session } from '../../sdk/session.ts'
import type { Key, LockStory, Recorder } from '../linearizability/history.ts'

const ttl_ms_min = 1_200
const ttl_ms_span = 1_500
const hold_ms_max = 1_500
const wait_ms_max = 3_000
const ask_ms = 1_000
const pause_ms_max = 200

export class ChaosLocker {
  readonly problems: string[] = []
  /** Locks it was told it has. */
  taken = 0
  readonly #name: string
  readonly #session: Session
  readonly #recorder: Recorder
  readonly #random: () => number
  readonly #folder: string
  readonly #keys: readonly Key[]

  constructor(name: string, session: Session, recorder: Recorder, random: () => number, folder: string, keys: readonly Key[]) {
    this.#name = name
    this.#session = session
    this.#recorder = recorder
    this.#random = random
    this.#folder = folder
    this.#keys = keys
  }

  async run(until: AbortSignal): Promise<void> {
    while (!until.aborted) {
      await this.#round(until)
      await this.#pause(this.#random() * pause_ms_max)
    }
  }

  async #round(until: AbortSignal): Promise<void> {
    const key = this.#keys[Math.floor(this.#random() * this.#keys.length)]!
    const path = parsePath(`${this.#folder}/${key}`)
    const ttlMs = Math.round(ttl_ms_min + this.#random() * ttl_ms_span)
    const { server } = this.#session.client
    const asked = this.#recorder.clock()
    const lease = (await this.#ask(() => server.grantLease(this.#context(), ttlMs, path)))?.lease
    if (lease === undefined) return
    const story = await this.#lock(key, path, lease, asked, asked + ttlMs)
    if (story !== undefined) await this.#hold(story, path, ttlMs, until)
    if (story !== undefined && this.#random() < 0.35) return // It ends by itself.
    if (story !== undefined) story.until = Math.min(story.until, this.#recorder.clock())
    await this.#ask(() => server.revokeLease(this.#context(), lease))
  }

  async #lock(key: Key, path: Path, lease: string, asked: number, until: number): Promise<LockStory | undefined> {
    const { server } = this.#session.client
    const context = this.#session.client.context({ timeoutMs: wait_ms_max })
    const taken = await this.#ask(() => server.lock(context, path, lease))
    if (taken === undefined) return undefined
    this.taken++
    return this.#recorder.lock({ key, client: this.#name, lease, token: taken.token, asked, had: this.#recorder.clock(), until })
  }

  async #hold(story: LockStory, path: Path, ttlMs: number, until: AbortSignal): Promise<void> {
    const end = this.#recorder.clock() + this.#random() * hold_ms_max
    while (this.#recorder.clock() < Math.min(end, story.until) && !until.aborted) {
      const sent = this.#recorder.clock()
      const renewed = await this.#ask(() => this.#session.client.server.renewLease(this.#context(), story.lease))
      if (renewed !== undefined) story.until = Math.max(story.until, sent + ttlMs)
      await this.#look(story, path)
      await this.#pause(ttlMs / 5)
    }
  }

  async #look(story: LockStory, path: Path): Promise<void> {
    const from = this.#recorder.clock()
    try {
      const { stat } = await this.#session.client.server.stat(this.#context(), path)
      story.looks.push({ from, to: this.#recorder.clock(), lease: stat.lease ?? null, token: stat.createdRevision })
    } catch (error) {
      if (isNineError(error, 'not_found')) story.looks.push({ from, to: this.#recorder.clock(), lease: null, token: 0 })
      else this.#noteFailure(error)
    }
  }

  async #ask<T>(run: () => Promise<T>): Promise<T | undefined> {
    try {
      return await run()
    } catch (error) {
      // A lease that has ended is not found.
      if (!isNineError(error, 'not_found')) this.#noteFailure(error)
      return undefined
    }
  }

  #noteFailure(error: unknown): void {
    if (isNineError(error) && ['unavailable', 'deadline', 'overloaded'].includes(error.kind)) return
    this.problems.push(`${this.#name}, who takes locks, got ${String(error)}`)
  }

  #context(): ReturnType<Session['client']['context']> {
    return this.#session.client.context({ timeoutMs: ask_ms })
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ms))
  }
}
