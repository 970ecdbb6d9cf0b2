/**
 * A watch over one directory that goes on over everything: where its node is lost it resumes at the next by position, and now and
 * then it changes nodes of its own accord.
 */
import { isNineError } from '../../namespace/errors.ts'
import type { WatchEvent } from '../../namespace/file-server.ts'
import { baseName, parentPath, parsePath } from '../../namespace/path.ts'
import { encodePosition } from '../../namespace/position.ts'
import type { Position } from '../../namespace/position.ts'
import type { Session } from '../../sdk/session.ts'
import type { Recorder, WatchStory } from '../linearizability/history.ts'
import { atOf, shownValue } from './client.ts'

const stay_ms_max = 3_000
const again_ms = 100

export class ChaosWatcher {
  readonly story: WatchStory
  readonly problems: string[] = []
  /** How often it went on somewhere else. */
  moves = 0
  readonly #sessions: readonly Session[]
  readonly #recorder: Recorder
  readonly #random: () => number
  readonly #folder: string
  #next: Position
  #reached: (() => void)[] = []

  /** @param from position at which nothing had been done in `folder` */
  constructor(name: string, sessions: readonly Session[], recorder: Recorder, random: () => number, folder: string, from: Position) {
    this.#sessions = sessions
    this.#recorder = recorder
    this.#random = random
    this.#folder = folder
    this.#next = from
    this.story = recorder.watch(name, from[0]!.revision, true)
  }

  async run(until: AbortSignal): Promise<void> {
    let at = Math.floor(this.#random() * this.#sessions.length)
    while (!until.aborted) {
      const leave = AbortSignal.any([until, AbortSignal.timeout(Math.round(200 + this.#random() * stay_ms_max))])
      try {
        await this.#follow(this.#sessions[at % this.#sessions.length]!, leave)
      } catch (error) {
        if (!isNineError(error) || !['unavailable', 'overloaded', 'deadline'].includes(error.kind)) {
          this.problems.push(`the watch ${this.story.name} from ${encodePosition(this.#next)} ended with ${String(error)}`)
          return
        }
        await new Promise((resolve) => setTimeout(resolve, again_ms))
      }
      at++
      this.moves++
    }
  }

  /** Resolves when it has seen everything up to and with `revision`. */
  reached(revision: number, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.story.upTo >= revision || signal.aborted) resolve(this.story.upTo >= revision)
        else this.#reached.push(look)
      }
      signal.addEventListener('abort', look, { once: true })
      look()
    })
  }

  async #follow(session: Session, leave: AbortSignal): Promise<void> {
    const { client } = session
    const context = client.context({ timeoutMs: Infinity, signal: leave })
    const batches = client.server.watch(context, parsePath(this.#folder), { from: this.#next, recursive: true })
    const iterator = batches[Symbol.asyncIterator]()
    const stop = (): void => void iterator.return?.()
    leave.addEventListener('abort', stop, { once: true })
    try {
      for (;;) {
        const step = await iterator.next()
        if (step.done === true || leave.aborted) return
        for (const event of step.value.events) this.#tell(event)
        this.#next = step.value.position
        this.story.upTo = this.#next[0]!.revision - 1
        for (const look of this.#reached.splice(0)) look()
      }
    } catch (error) {
      if (!leave.aborted) throw error
    } finally {
      leave.removeEventListener('abort', stop)
    }
  }

  #tell({ type, path, from, position, stat, bytes }: WatchEvent): void {
    if (path === this.#folder) return
    const [place] = position
    if (place === undefined || (from !== undefined && parentPath(from) !== this.#folder)) {
      this.problems.push(`the watch ${this.story.name} was told of a ${type} of ${path}, which nobody did`)
      return
    }
    const value = type === 'remove' || bytes === undefined ? undefined : shownValue(bytes)
    const { revision, ordinal } = place
    const before = from === undefined ? {} : { from: baseName(from) }
    this.story.told.push({
      type,
      key: baseName(path),
      ...before,
      revision,
      ordinal,
      at: atOf(stat.qid),
      value,
      tick: this.#recorder.tick(),
    })
  }
}
