/**
 * GET ?watch: changes as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
 *
 * W1 One event a change. An `id` stands on the last event of a position only, and resumes after it, so that a client cut in
 *    the middle of a transaction sees the whole transaction again rather than a part of it never.
 * W2 A slow reader is waited for; the server behind ends the watch with `overloaded` when it has waited too long.
 * W3 What is refused soon is an answer with a status of its own; a later end is an event `error` with the problem as data, and
 *    then the end of the answer.
 * W4 The watch ends on the server as soon as the client is gone or the edge closes.
 */
import { NineError, toNineError } from '../../namespace/errors.ts'
import type { WatchBatch, WatchEvent } from '../../namespace/file-server.ts'
import { eventToJson } from '../../namespace/json.ts'
import { decodePosition, encodePosition } from '../../namespace/position.ts'
import type { Position } from '../../namespace/position.ts'
import { endAnswer, writePart } from './answer.ts'
import { invalid } from './params.ts'
import { problemOf } from './problem.ts'
import type { Exchange } from './request.ts'

export async function watch(exchange: Exchange): Promise<void> {
  const { query, server, context, path, request, response, edge } = exchange
  const mode = query.get('watch')
  if (mode !== '' && mode !== 'recursive') throw invalid('watch takes no value or recursive')
  if (request.method === 'HEAD') throw invalid('a watch has no HEAD')
  const options = { recursive: mode === 'recursive', from: fromOf(exchange), previous: query.has('previous'), statsOnly: true }
  const batches = server.watch({ ...context, deadline: Infinity }, path, options)[Symbol.asyncIterator]()
  const end = (): void => void batches.return?.().catch(() => undefined)
  edge.endless.add(end)
  try {
    let next = batches.next()
    if ((await firstOf(next, edge.limits.http_watch_refusal_ms)) === 'gone') {
      throw new NineError({ kind: 'unavailable', op: 'http.watch', path, message: 'the watch ended before it began' })
    }
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' })
    response.flushHeaders()
    for (;;) {
      const step = await next
      if (step.done === true || !(await writePart(response, render(step.value), edge.limits))) break
      next = batches.next()
    }
    endAnswer(response, undefined, edge.limits)
  } catch (error) {
    if (!response.headersSent) throw error
    const problem = problemOf(toNineError(error, 'http.watch', path))
    await writePart(response, `event: error\ndata: ${JSON.stringify(problem)}\n\n`, edge.limits) // W3
    endAnswer(response, undefined, edge.limits)
  } finally {
    edge.endless.delete(end)
    await batches.return?.() // W4
  }
}

/** Wait for the first batch, a refusal, or until it is late enough to say that the watch was not refused. */
async function firstOf(first: Promise<IteratorResult<WatchBatch>>, ms: number): Promise<'here' | 'gone' | 'quiet'> {
  let timer: NodeJS.Timeout | undefined
  const quiet = new Promise<undefined>((resolve) => (timer = setTimeout(() => resolve(undefined), ms)))
  try {
    const step = await Promise.race([first, quiet])
    return step === undefined ? 'quiet' : step.done === true ? 'gone' : 'here'
  } finally {
    clearTimeout(timer)
  }
}

function fromOf({ query, request }: Exchange): Position | number | undefined {
  const last = request.headers['last-event-id']
  if (typeof last === 'string' && last !== '') return unlessEmpty(decodePosition(last, 'http.request'))
  const moment = query.moment('from')
  if (moment === undefined) return undefined
  if ('time' in moment) throw invalid('from is a revision or a position')
  return 'revision' in moment ? moment.revision : unlessEmpty(moment.position)
}

/** What keeps no history is watched from now on. */
function unlessEmpty(position: Position): Position | undefined {
  return position.length === 0 ? undefined : position
}

function render({ events, position }: WatchBatch): string {
  const after = position.length === 0 ? '' : `id: ${encodePosition(position)}\n`
  if (events.length === 0) return `: progress\n${after}\n`
  let text = ''
  for (let i = 0; i < events.length; i++) {
    const event = events[i]!
    const following = events[i + 1]
    const id = following === undefined ? (isCutShort(event, position) ? '' : after) : idBetween(event, following)
    text += `${id}data: ${dataOf(event)}\n\n`
  }
  return text
}

/** Events that many watch are written once. */
const written = new WeakMap<WatchEvent, string>()

function dataOf(event: WatchEvent): string {
  let text = written.get(event)
  if (text === undefined) {
    text = JSON.stringify(eventToJson(event))
    written.set(event, text)
  }
  return text
}

/** Where to go on after `event`, unless its position has more to come (W1) or other stores have told theirs at the end only. */
function idBetween(event: WatchEvent, following: WatchEvent): string {
  const [at, ...others] = event.position
  const [then] = following.position
  if (at === undefined || others.length > 0 || (then?.store === at.store && then.revision === at.revision)) return ''
  return `id: ${encodePosition([{ ...at, revision: at.revision + 1, ordinal: 0 }])}\n`
}

/** Whether the batch ended in the middle of the event's revision. */
function isCutShort({ position }: WatchEvent, end: Position): boolean {
  return end.some((next) => position.some((at) => at.store === next.store && at.revision === next.revision && at.ordinal < next.ordinal))
}
