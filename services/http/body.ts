/** Bodies of requests and answers as streams with bounds: on size, and on how long a peer may give or take nothing. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'

/**
 * The parts of a request's body as they arrive.
 * @throws NineError `too_large` past `max` bytes, `deadline` when the client sends nothing for too long, `invalid` when it leaves
 */
export async function* bodyParts(request: IncomingMessage, max: number): AsyncGenerator<Uint8Array, void> {
  const declared = Number(request.headers['content-length'] ?? 0)
  if (declared > max) throw tooLarge(max)
  let size = 0
  let isStalled = false
  const timer = setTimeout(() => {
    isStalled = true
    request.destroy()
  }, limits.http_body_stalled_ms)
  try {
    for await (const part of request as AsyncIterable<Uint8Array>) {
      timer.refresh()
      size += part.length
      if (size > max) throw tooLarge(max)
      yield part
    }
  } catch (cause) {
    if (cause instanceof NineError) throw cause
    const message = isStalled ? `the body stood still for ${limits.http_body_stalled_ms} ms` : 'the client left before the end of the body'
    throw new NineError({ kind: isStalled ? 'deadline' : 'invalid', op: 'http.body', message, cause })
  } finally {
    clearTimeout(timer)
  }
  if (!request.complete) throw new NineError({ kind: 'invalid', op: 'http.body', message: 'the client left before the end of the body' })
}

/** A whole body in memory. @throws NineError as bodyParts */
export async function wholeBody(request: IncomingMessage, max: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  for await (const part of bodyParts(request, max)) parts.push(part)
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
}

/** Write and wait for room, so that a slow reader holds at most one part. False when the reader is gone. */
export async function writePart(response: ServerResponse, part: Uint8Array | string): Promise<boolean> {
  if (response.destroyed) return false
  if (response.write(part)) return true
  return new Promise((resolve) => {
    const timer = setTimeout(() => response.destroy(), limits.session_stalled_ms)
    const done = (isOpen: boolean) => (): void => {
      clearTimeout(timer)
      response.off('drain', onDrain).off('close', onClose)
      resolve(isOpen)
    }
    const onDrain = done(true)
    const onClose = done(false)
    response.once('drain', onDrain).once('close', onClose)
  })
}

function tooLarge(max: number): NineError {
  return new NineError({ kind: 'too_large', op: 'http.body', message: `a body is at most ${max} bytes here` })
}
