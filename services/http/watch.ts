/**
 * GET ?watch: changes as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
 *
 * W1 One event a change. An `id` stands on the last event of a position only, and resumes after it, so that a client cut in
 *    the middle of a transaction sees the whole transaction again rather than a part of it never.
 * W2 A slow reader is waited for; the server behind ends the watch with `overloaded` when it has waited too long.
 * W3 The end of a watch is an event `error` with the problem as data; then the response ends.
 */
import { toNineError } from '../../namespace/errors.ts'
import type { WatchBatch, WatchEvent } from '../../namespace/file-server.ts'
import { eventToJson } from '../../namespace/json.ts'
import { decodePosition, encodePosition, mergePositions } from '../../namespace/position.ts'
import type { Position } from '../../namespace/position.ts'
import { writePart } from './body.ts'
import { invalid } from './params.ts'
import { problemOf } from './problem.ts'
import type { Exchange } from './request.ts'

export async function watch(exchange: Exchange): Promise<void> {
  const { query, server, context, path, request, response } = exchange
  const mode = query.get('watch')
  if (mode !== '' && mode !== 'recursive') throw invalid('watch takes no value or recursive')
  const options = { recursive: mode === 'recursive', from: fromOf(exchange), previous: query.has('previous'), statsOnly: true }
  // Refusals are answers with a status of their own, so the first look comes before the head.
  if (request.method === 'HEAD') throw invalid('a watch has no HEAD')
  const batches = server.watch({ ...context, deadline: Infinity }, path, options)[Symbol.asyncIterator]()
  try {
    let next = batches.next()
    const opened = await Promise.race([next, settled()])
    const head = (): void => {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' })
      response.flushHeaders()
    }
    if (opened !== 'pending' && opened.done === true) return void response.end()
    head()
    let seen: Position = []
    for (;;) {
      const step = await next
      if (step.done === true) break
      seen = mergePositions(seen, step.value.position)
      if (!(await writePart(response, render(step.value, seen)))) return
      next = batches.next()
    }
    response.end()
  } catch (error) {
    if (!response.headersSent) throw error
    const problem = problemOf(toNineError(error, 'http.watch', path))
    await writePart(response, `event: error\ndata: ${JSON.stringify(problem)}\n\n`)
    response.end()
  } finally {
    await batches.return?.()
  }
}

/** Resolves in a later turn, when what could be refused at once has been. */
function settled(): Promise<'pending'> {
  return new Promise((resolve) => setImmediate(() => resolve('pending')))
}

function fromOf({ query, request }: Exchange): Position | number | undefined {
  const last = request.headers['last-event-id']
  if (typeof last === 'string' && last !== '') return decodePosition(last, 'http.request')
  const moment = query.moment('from')
  if (moment === undefined) return undefined
  if ('time' in moment) throw invalid('from is a revision or a position')
  return 'revision' in moment ? moment.revision : moment.position
}

function render(batch: WatchBatch, seen: Position): string {
  const { events } = batch
  if (events.length === 0) return `: progress\nid: ${encodePosition(seen)}\n\n`
  let text = ''
  for (let i = 0; i < events.length; i++) {
    const event = events[i]!
    const resume = resumeAfter(event, events[i + 1], seen)
    text += `${resume === undefined ? '' : `id: ${encodePosition(resume)}\n`}data: ${JSON.stringify(eventToJson(event))}\n\n`
  }
  return text
}

/** Where to go on after `event`; undefined while its position has more to come (W1). */
function resumeAfter(event: WatchEvent, following: WatchEvent | undefined, seen: Position): Position | undefined {
  if (following === undefined) return seen.every((element) => element.ordinal === 0) ? seen : undefined
  const [at] = event.position
  const [then] = following.position
  if (at === undefined || (then !== undefined && then.store === at.store && then.revision === at.revision)) return undefined
  // Within a batch of several stores only its end says how far all of them are.
  return seen.length > 1 ? undefined : [{ ...at, revision: at.revision + 1, ordinal: 0 }]
}
