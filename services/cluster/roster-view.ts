/** The members as this node last heard of them: followed through its own copy of the store `sys`, without asking anybody. */
import type { Context } from '../../namespace/context.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { pause } from './founding.ts'
import { clusterFolder, folders } from './records.ts'
import type { Members, Roster } from './roster.ts'

export interface RosterViewParts {
  readonly sys: FileServer
  readonly roster: Roster
  readonly context: () => Context
  /** It may have changed. */
  changed(members: Members): void
  warn(error: unknown): void
}

const follow_again_ms = 500
const followed = [folders.names, folders.members, folders.removed]

export class RosterView {
  readonly #parts: RosterViewParts
  readonly #stop = new AbortController()
  #members: Members = { names: new Map(), members: new Map(), removed: new Map() }
  #generation = 0
  #running: Promise<void> | undefined

  constructor(parts: RosterViewParts) {
    this.#parts = parts
  }

  get members(): Members {
    return this.#members
  }

  /** Moves on with each change. */
  get generation(): number {
    return this.#generation
  }

  start(): void {
    this.#running ??= this.#follow()
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#running
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop
    const { sys, context } = this.#parts
    while (!signal.aborted) {
      try {
        await this.#load() // The watch begins only with a leader.
        const lasting: Context = { ...context(), deadline: Infinity, signal }
        let isFirst = true
        // The first batch comes at once: what is loaded then is not older than what the watch begins with.
        for await (const { events } of sys.watch(lasting, clusterFolder, { recursive: true, statsOnly: true })) {
          if (isFirst || events.some(({ path }) => followed.some((folder) => path.startsWith(folder)))) await this.#load()
          isFirst = false
        }
      } catch (error) {
        if (!signal.aborted) this.#parts.warn(error)
      }
      await pause(follow_again_ms, signal)
    }
  }

  async #load(): Promise<void> {
    this.#members = await this.#parts.roster.load(true)
    this.#generation++
    this.#parts.changed(this.#members)
  }
}
