/**
 * The JSON form of stats, results and events, one for HTTP, the CLI and generated files: integers are numbers, times are
 * RFC 3339 with microseconds, positions their opaque text, what is unknown is left out.
 */
import { NineError } from './errors.ts'
import type { MutationResult, WatchEvent } from './file-server.ts'
import { encodePosition } from './position.ts'
import type { Position } from './position.ts'
import type { Micros, Qid, Stat } from './stat.ts'

export interface StatJson {
  readonly name: string
  readonly kind: Stat['kind']
  readonly qid: Qid
  readonly size?: number | undefined
  readonly version: number
  readonly revision: number
  readonly createdRevision: number
  readonly mode: number
  readonly owner: string
  readonly group: string
  readonly modifiedBy: string
  readonly createdAt: string
  readonly modifiedAt: string
  readonly contentType?: string | undefined
  readonly blob?: string | undefined
  readonly lease?: string | undefined
  readonly target?: string | undefined
}

export function statToJson(stat: Stat): StatJson {
  const { name, kind, qid, size, version, revision, createdRevision, mode, owner, group, modifiedBy, contentType, blob, lease, target } =
    stat
  const createdAt = formatTime(stat.createdAt)
  const modifiedAt = formatTime(stat.modifiedAt)
  return {
    name,
    kind,
    qid: { type: qid.type, path: qid.path, version: qid.version },
    size,
    version,
    revision,
    createdRevision,
    mode,
    owner,
    group,
    modifiedBy,
    createdAt,
    modifiedAt,
    contentType,
    blob,
    lease,
    target,
  }
}

export function mutationToJson(result: MutationResult): Record<string, unknown> {
  const { qid, revision, created, size, position } = result
  return { qid, version: qid.version, revision, created, size, position: encodePosition(position) }
}

export function eventToJson(event: WatchEvent): Record<string, unknown> {
  return {
    type: event.type,
    path: event.path,
    from: event.from,
    subtree: event.subtree ? true : undefined,
    position: encodePosition(event.position),
    // Of the event's own store: it comes first.
    revision: event.position[0]?.revision ?? 0,
    time: formatTime(event.time),
    actor: event.actor,
    cause: event.cause,
    stat: statToJson(event.stat),
    previous: event.previous === undefined ? undefined : statToJson(event.previous),
  }
}

/** The revision of a position of one store; of a vector, the highest. 0 where nothing is versioned. */
export function revisionOf(position: Position): number {
  let revision = 0
  for (const element of position) revision = Math.max(revision, element.revision)
  return revision
}

/** RFC 3339 in UTC, with as many of six decimals as are not zero, at least three. */
export function formatTime(time: Micros): string {
  const millis = Math.floor(time / 1000)
  const rest = time - millis * 1000
  const text = new Date(millis).toISOString()
  return rest === 0 ? text : `${text.slice(0, -1)}${String(rest).padStart(3, '0')}Z`
}

const rfc3339 = /^(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})$/

/** @throws NineError `invalid` for anything that is no RFC 3339 time; digits past the microsecond are dropped */
export function parseTime(text: string, op: string): Micros {
  const match = rfc3339.exec(text)
  const seconds = match === null ? NaN : Date.parse(`${match[1]}T${match[2]}${match[4]!.toUpperCase()}`)
  if (match === null || Number.isNaN(seconds)) {
    throw new NineError({
      kind: 'invalid',
      op,
      message: `${JSON.stringify(text.slice(0, 64))} is no RFC 3339 time, like 2026-01-31T12:00:00Z`,
    })
  }
  const fraction = (match[3] ?? '.').slice(1).padEnd(6, '0').slice(0, 6)
  return seconds * 1000 + Number(fraction)
}
