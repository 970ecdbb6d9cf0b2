/** A 9P client of messages alone: it asks what the test says and gives back what comes, in order or out of it. */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { decodeAnswer } from '../../proto/ninep/decode.ts'
import { MessageWriter } from '../../proto/ninep/encode.ts'
import { MessageFramer } from '../../proto/ninep/framer.ts'
import { noFid, noTag, noUid } from '../../proto/ninep/messages.ts'
import type { Answer, Dialect, RequestBody } from '../../proto/ninep/messages.ts'

export type AnswerOf<T extends Answer['type']> = Answer & { readonly type: T }

export class RawClient {
  readonly socket: Socket
  readonly dialect: Dialect
  /** Types and tags of answers in the order they came. */
  readonly came: { readonly type: Answer['type']; readonly tag: number }[] = []
  readonly closed: Promise<void>
  readonly #writer: MessageWriter
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  #lastTag = 0

  constructor(socket: Socket, dialect: Dialect) {
    this.socket = socket
    this.dialect = dialect
    this.#writer = new MessageWriter(dialect)
    const framer = new MessageFramer(2 ** 21)
    socket.on('data', (chunk: Buffer) =>
      framer.push(chunk, (message) => {
        const answer = decodeAnswer(message, dialect)
        this.came.push({ type: answer.type, tag: answer.tag })
        const resolve = this.#waiting.get(answer.tag)
        this.#waiting.delete(answer.tag)
        resolve?.(answer)
        return true
      }),
    )
    socket.on('error', () => undefined)
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()))
  }

  /** Connected, with its version agreed on. */
  static async open(address: string, dialect: Dialect, msize = 65_536): Promise<RawClient> {
    const client = await RawClient.connect(address, dialect)
    await client.ask({ type: 'Tversion', msize, version: dialect }, 'Rversion', noTag)
    return client
  }

  static connect(address: string, dialect: Dialect): Promise<RawClient> {
    const at = address.lastIndexOf(':')
    const socket = address.startsWith('/') ? connect(address) : connect(Number(address.slice(at + 1)), address.slice(0, at))
    return new Promise((resolve, reject) => {
      socket.once('connect', () => resolve(new RawClient(socket, dialect)))
      socket.once('error', reject)
    })
  }

  nextTag(): number {
    return (this.#lastTag = (this.#lastTag % 60_000) + 1)
  }

  /** Send it without waiting. */
  send(body: RequestBody, tag = this.nextTag()): { readonly tag: number; readonly answer: Promise<Answer> } {
    const answer = new Promise<Answer>((resolve) => this.#waiting.set(tag, resolve))
    this.#writer.write({ ...body, tag })
    for (const part of this.#writer.take()) this.socket.write(part)
    return { tag, answer }
  }

  /** The answer, which has to be of this type. */
  async ask<T extends Answer['type']>(body: RequestBody, type: T, tag?: number): Promise<AnswerOf<T>> {
    const answer = await this.send(body, tag).answer
    if (answer.type !== type) throw new Error(`${body.type} was answered by ${JSON.stringify(answer)}`)
    return answer as AnswerOf<T>
  }

  /** Its errno (9P2000.L) or text (9P2000). */
  async refused(body: RequestBody): Promise<number | string> {
    const answer = await this.send(body).answer
    if (answer.type === 'Rlerror') return answer.errno
    if (answer.type === 'Rerror') return answer.ename
    throw new Error(`${body.type} was answered by ${answer.type}`)
  }

  /** The error that bytes of the test's own are answered with, whatever their tag. */
  async refusedBytes(message: Buffer): Promise<number | string> {
    const tag = message.readUInt16LE(5)
    const answered = new Promise<Answer>((resolve) => this.#waiting.set(tag, resolve))
    this.socket.write(message)
    const answer = await answered
    if (answer.type === 'Rlerror') return answer.errno
    if (answer.type === 'Rerror') return answer.ename
    throw new Error(`it was answered by ${answer.type}`)
  }

  attach(fid: number, aname = '/', fields: { uname?: string; nUname?: number; afid?: number } = {}): Promise<AnswerOf<'Rattach'>> {
    return this.ask({ type: 'Tattach', fid, afid: noFid, uname: 'somebody', nUname: noUid, aname, ...fields }, 'Rattach')
  }

  walk(fid: number, newFid: number, path: string): Promise<AnswerOf<'Rwalk'>> {
    return this.ask({ type: 'Twalk', fid, newFid, names: path.split('/').filter((name) => name !== '') }, 'Rwalk')
  }

  async clunk(fid: number): Promise<void> {
    await this.ask({ type: 'Tclunk', fid }, 'Rclunk')
  }

  close(): Promise<void> {
    this.socket.destroy()
    return this.closed
  }
}
