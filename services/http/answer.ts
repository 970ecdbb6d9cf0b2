/**
 * Answers, and how they leave: whole, also when the request's body was refused before its end.
 *
 * A1 An answer reaches the client before its connection ends. What is left of a refused body is read and dropped for a while,
 *    because closing with unread bytes resets the connection and takes the answer with it (RFC 9112, 9.6).
 * A2 That while is bounded, in bytes and time; so is how long a peer may take nothing of an answer.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { HttpLimits } from './limits.ts'

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body?: Uint8Array | string | undefined
}

/** Bodies whose client waits for 100 Continue before it sends them. */
export const awaitsContinue = new WeakSet<IncomingMessage>()

/** Send a whole answer; when one has already begun, end the connection so that nobody takes half for whole. */
export function send(response: ServerResponse, { status, headers, body }: Answer, limits: HttpLimits): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const request = response.req
  const all: Record<string, string | number> = { ...headers }
  if (body !== undefined) all['content-length'] = typeof body === 'string' ? Buffer.byteLength(body) : body.length
  const sent = request.method === 'HEAD' ? undefined : body
  const isWaited = awaitsContinue.delete(request)
  if (isWaited || hasMuchLeft(request, limits)) {
    all['connection'] = 'close'
    response.writeHead(status, all)
    if (sent === undefined) response.flushHeaders()
    else response.write(sent)
    if (isWaited) response.end()
    else drain(request, limits, () => endAnswer(response, undefined, limits)) // A1
    return
  }
  response.writeHead(status, all)
  endAnswer(response, sent, limits)
  // Node reads what nobody asked for; a body that was begun has to be let go on.
  if (!request.complete) request.resume()
}

/** End an answer. A peer that takes nothing of it for too long is disconnected. */ // A2
export function endAnswer(response: ServerResponse, last: Uint8Array | string | undefined, limits: HttpLimits): void {
  // As text a short body leaves in one write with its head; as bytes it would need two.
  if (last instanceof Uint8Array && last.length <= short_bytes_max) response.end(latin1Of(last), 'latin1')
  else response.end(last)
  const { socket } = response
  // Node sets the time of an idle connection when the answer is out.
  if (socket !== null && socket.writableLength > 0) socket.setTimeout(limits.session_stalled_ms)
}

const short_bytes_max = 16 * 1024

function latin1Of(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}

/** Whether a request says that a body follows. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || (headers['content-length'] !== undefined && headers['content-length'] !== '0')
}

function hasMuchLeft(request: IncomingMessage, limits: HttpLimits): boolean {
  if (request.complete || !hasBody(request)) return false
  return !(Number(request.headers['content-length']) <= limits.http_body_memory_bytes_max)
}

function drain(request: IncomingMessage, limits: HttpLimits, done: () => void): void {
  let left = limits.http_drain_bytes_max
  const onData = (part: Uint8Array): void => {
    left -= part.length
    if (left < 0) finish()
  }
  const finish = (): void => {
    clearTimeout(timer)
    request.off('data', onData).off('end', finish).off('close', finish)
    request.pause()
    done()
  }
  const timer = setTimeout(finish, limits.http_drain_ms)
  request.on('data', onData).once('end', finish).once('close', finish)
  request.resume()
}

/** Write and wait for room, so that a slow reader holds one part at most. False when the reader is gone. */ // A2
export function writePart(response: ServerResponse, part: Uint8Array | string, limits: HttpLimits): Promise<boolean> {
  if (response.destroyed || response.writableEnded) return Promise.resolve(false)
  if (response.write(part)) return Promise.resolve(true)
  return new Promise((resolve) => {
    const { socket } = response
    const done = (): void => {
      socket?.setTimeout(0)
      response.off('drain', done).off('close', done)
      resolve(!response.destroyed)
    }
    // It runs only while nothing moves: node looks at the bytes that the kernel took since.
    socket?.setTimeout(limits.session_stalled_ms)
    response.once('drain', done).once('close', done)
  })
}
