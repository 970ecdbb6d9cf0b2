/** HTTP by hand over a socket: what no client library would send. */
import { connect } from 'node:net'
import type { Socket } from 'node:net'

export interface RawAnswer {
  readonly status: number
  readonly head: string
  readonly body: string
}

/** Open a connection and give it once it is there. */
export function dial(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1' }, () => resolve(socket))
    socket.once('error', reject)
  })
}

/** Everything that the peer sends until it closes. */
export function untilClosed(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    const parts: Buffer[] = []
    socket.on('data', (part) => parts.push(part))
    socket.on('error', () => undefined)
    socket.once('close', () => resolve(Buffer.concat(parts).toString('latin1')))
  })
}

/** Wait until what was received matches. */
export function untilReceived(socket: Socket, wanted: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const onData = (part: Buffer): void => {
      text += part.toString('latin1')
      if (!wanted.test(text)) return
      socket.off('data', onData)
      resolve(text)
    }
    socket.on('data', onData)
    socket.once('close', () => reject(new Error(`closed after ${JSON.stringify(text)}`)))
  })
}

/** Send bytes on a new connection and give all answers until it closes. */
export async function rawAnswers(port: number, bytes: string | Uint8Array, { half = true } = {}): Promise<RawAnswer[]> {
  const socket = await dial(port)
  const received = untilClosed(socket)
  socket.write(bytes)
  if (half) socket.end()
  return parseAnswers(await received)
}

/** One request, its connection closed after the answer. `target` goes out as it is. */
export async function rawRequest(
  port: number,
  method: string,
  target: string,
  headers: Record<string, string> = {},
  body = '',
): Promise<RawAnswer> {
  const lines = Object.entries({ host: 'x', connection: 'close', ...headers }).map(([name, value]) => `${name}: ${value}`)
  const length = body === '' ? [] : [`content-length: ${Buffer.byteLength(body)}`]
  const [answer] = await rawAnswers(port, `${method} ${target} HTTP/1.1\r\n${[...lines, ...length].join('\r\n')}\r\n\r\n${body}`, {
    half: false,
  })
  if (answer === undefined) throw new Error(`no answer to ${method} ${target}`)
  return answer
}

/** @throws Error for what is no valid sequence of whole answers */
export function parseAnswers(text: string, heads = new Set<number>()): RawAnswer[] {
  const answers: RawAnswer[] = []
  let rest = text
  while (rest !== '') {
    const end = rest.indexOf('\r\n\r\n')
    const head = rest.slice(0, end)
    const status = /^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1]
    if (end === -1 || status === undefined) throw new Error(`no answer: ${JSON.stringify(rest.slice(0, 200))}`)
    rest = rest.slice(end + 4)
    if (status.startsWith('1')) continue
    const length = /^content-length: (\d+)$/im.exec(head)?.[1]
    const hasNoBody = status === '204' || status === '304' || heads.has(answers.length)
    const size = hasNoBody ? 0 : length === undefined ? rest.length : Number(length)
    if (rest.length < size) throw new Error(`half an answer: ${JSON.stringify(head)}`)
    answers.push({ status: Number(status), head, body: rest.slice(0, size) })
    rest = rest.slice(size)
  }
  return answers
}
