/**
 * Frames on their way out: all that are written before the work at hand ends, with all its promises, leave in one write. That work is what one
 * chunk of the connection brought, or one write of the log: the next would only make it wait.
 */
import { FrameWriter } from '../../proto/frames.ts'
import type { Channel } from './channel.ts'

/** A turn that writes more than this sends it before the turn is over. */
const flush_bytes = 512 * 1024

export class Outbox {
  readonly writer = new FrameWriter()
  readonly #channel: Channel
  #isDue = false

  constructor(channel: Channel) {
    this.#channel = channel
  }

  /** Bytes not yet taken by the system. */
  get queuedBytes(): number {
    return this.writer.length + this.#channel.queuedBytes
  }

  /** Call after each frame. */
  written(): void {
    if (this.writer.length > flush_bytes) return this.flush()
    if (this.#isDue) return
    this.#isDue = true
    process.nextTick(this.#flushDue)
  }

  /** A frame without payload. */
  bare(type: number, tag: number): void {
    this.writer.bare(type, tag)
    this.written()
  }

  /** A frame whose payload is one number. */
  number(type: number, tag: number, value: number): void {
    this.writer.beginFrame(type, tag)
    this.writer.uint(1, value)
    this.writer.endFrame()
    this.written()
  }

  flush(): void {
    if (this.writer.length > 0) this.#channel.write(this.writer.take())
  }

  readonly #flushDue = (): void => {
    this.#isDue = false
    this.flush()
  }
}
