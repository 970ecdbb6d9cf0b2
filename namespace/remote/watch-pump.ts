/**
 * The sending end of a watch: takes batches from a file server as fast as the peer gives credit, and no faster.
 *
 * U1 Nothing is taken from the source while the credit is used up or the session's queue is full: what piles up does so in the
 *    source, whose bound ends the watch with `overloaded` and where to resume.
 * U2 A batch is sent in parts no longer than about limits.watch_frame_bytes; each part's position is that of the event after it.
 */
import { frameType } from '../../proto/frames.ts'
import { NineError, toNineError } from '../errors.ts'
import type { WatchBatch } from '../file-server.ts'
import { limits } from '../limits.ts'
import { encodePosition } from '../position.ts'
import type { Position } from '../position.ts'
import { eventBytes, writeBatch } from '../wire/watch.ts'
import type { Outbox } from './outbox.ts'

export class WatchPump {
  readonly #outbox: Outbox
  readonly #tag: number
  readonly #source: AsyncIterator<WatchBatch>
  readonly #controller: AbortController
  #credit: number
  #position: Position | undefined
  #wake: (() => void) | undefined
  #wakeStopped: (() => void) | undefined
  #isStopped = false
  #end: NineError | undefined

  constructor(outbox: Outbox, tag: number, credit: number, batches: AsyncIterable<WatchBatch>, controller: AbortController) {
    this.#outbox = outbox
    this.#tag = tag
    this.#credit = credit
    this.#source = batches[Symbol.asyncIterator]()
    this.#controller = controller
  }

  /** Until the watch has ended. @returns why, undefined when it was stopped. Never rejects. */
  async run(): Promise<NineError | undefined> {
    try {
      for (;;) {
        await this.#room()
        if (this.#isStopped) return this.#end
        const next = await this.#next()
        if (this.#isStopped || next === undefined) return this.#end
        if (next.done === true) return undefined
        await this.#send(next.value)
      }
    } catch (error) {
      return this.#isStopped ? this.#end : toNineError(error, 'session.watch')
    } finally {
      this.#controller.abort()
      // Whatever it says: it is over.
      void Promise.resolve(this.#source.return?.()).catch(() => undefined)
    }
  }

  credit(bytes: number): void {
    this.#credit += bytes
    this.drained()
  }

  drained(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }

  stop(): void {
    if (this.#isStopped) return
    this.#isStopped = true
    this.#controller.abort()
    this.#wakeStopped?.()
    this.drained()
  }

  /** Stop, and tell the peer why and where to go on. */
  end(error: NineError): void {
    if (this.#isStopped) return
    this.#end = this.#position === undefined ? error : new NineError({ ...error.fields, resume: encodePosition(this.#position) })
    this.stop()
  }

  /** The source's next batch, or undefined when the watch is stopped first, also where the source does not heed its signal. */
  #next(): Promise<IteratorResult<WatchBatch> | undefined> {
    return new Promise((resolve, reject) => {
      this.#wakeStopped = () => resolve(undefined)
      this.#source.next().then(resolve, reject)
    })
  }

  /** U1 */
  async #room(): Promise<void> {
    while (!this.#isStopped && (this.#credit <= 0 || this.#outbox.queuedBytes >= limits.session_send_bytes_max)) {
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  /** U2 */
  async #send({ events, position }: WatchBatch): Promise<void> {
    let start = 0
    let bytes = 0
    for (let index = 0; index < events.length; index++) {
      const size = eventBytes(events[index]!)
      if (index > start && bytes + size > limits.watch_frame_bytes) {
        this.#write({ events: events.slice(start, index), position: events[index]!.position })
        start = index
        bytes = 0
        await this.#room()
        if (this.#isStopped) return
      }
      bytes += size
    }
    this.#write({ events: start === 0 ? events : events.slice(start), position })
  }

  #write(batch: WatchBatch): void {
    const writer = this.#outbox.writer
    writer.beginFrame(frameType.batch, this.#tag)
    try {
      writeBatch(writer, batch)
    } catch (error) {
      writer.dropUnit()
      throw error
    }
    this.#credit -= writer.endFrame()
    this.#position = batch.position
    this.#outbox.written()
  }
}
