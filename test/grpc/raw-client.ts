/** A client of a session's bytes, for tests of peers that misbehave. */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { expect } from 'vitest'
import { FrameReader, FrameWriter, frameType, sessionMagic } from '../../proto/frames.ts'
import { Reader } from '../../proto/protobuf.ts'
import type { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { readError } from '../../namespace/wire/fields.ts'
import { ownLimits, writeHello } from '../../namespace/wire/session.ts'
import type { Hello } from '../../namespace/wire/session.ts'
import { owner, tokenOf } from './node.ts'

export interface Seen {
  readonly type: number
  readonly tag: number
  readonly payload: Buffer
}

export class RawClient {
  readonly socket: Socket
  readonly writer = new FrameWriter()
  readonly #reader = new FrameReader(limits.frame_bytes_max)
  readonly #seen: Seen[] = []
  #wake: (() => void) | undefined
  isClosed = false

  constructor(address: string) {
    const [host, port] = address.split(':') as [string, string]
    this.socket = connect({ host, port: Number(port) })
    this.socket.on('data', (chunk: Buffer) => {
      this.#reader.push(chunk)
      while (this.#reader.next()) {
        const { type, tag, buffer, start, end } = this.#reader
        this.#seen.push({ type, tag, payload: Buffer.from(buffer.subarray(start, end)) })
      }
      this.#wake?.()
    })
    this.socket.on('error', () => undefined)
    this.socket.on('close', () => {
      this.isClosed = true
      this.#wake?.()
    })
  }

  hello(fields: Partial<Hello> = {}): void {
    this.socket.write(sessionMagic)
    this.writer.beginFrame(frameType.hello, 0)
    writeHello(this.writer, {
      version: 1,
      features: [],
      limits: ownLimits,
      token: tokenOf(owner),
      name: 'raw',
      client: undefined,
      ...fields,
    })
    this.writer.endFrame()
    this.flush()
  }

  frame(type: number, tag: number, fields: (writer: FrameWriter) => void = () => undefined): void {
    this.writer.beginFrame(type, tag)
    fields(this.writer)
    this.writer.endFrame()
    this.flush()
  }

  flush(): void {
    for (const part of this.writer.take()) this.socket.write(part)
  }

  /** The next frame; undefined when the connection closed first. */
  async next(): Promise<Seen | undefined> {
    while (this.#seen.length === 0 && !this.isClosed) await new Promise<void>((resolve) => (this.#wake = resolve))
    return this.#seen.shift()
  }

  async failure(): Promise<NineError> {
    const frame = await this.next()
    expect(frame?.type).toBe(frameType.failure)
    return readError(new Reader(frame!.payload))
  }

  async open(): Promise<void> {
    this.hello()
    expect((await this.next())?.type).toBe(frameType.welcome)
  }
}
