/**
 * Positions: where in a store's sequence of changes an answer stands.
 *
 * Callers treat them as opaque. One store answers with one element; a union or a namespace that spans stores with one
 * element a store, sorted by store. `revision` counts the store's changes from 1; `ordinal` is the place of an event
 * inside its revision (a transaction has many), 0 where a whole revision is meant.
 */
import { NineError } from './errors.ts'

export interface StorePosition {
  /** Identity of the store: unique for as long as the store's data lives, whatever it is mounted as. */
  readonly store: string
  /** Changes when a store is restored from a backup, so that positions of the lost future are not mistaken. */
  readonly incarnation: string
  readonly revision: number
  readonly ordinal: number
}

export type Position = readonly StorePosition[]

/** The position of servers that keep no history. */
export const noPosition: Position = []

/** The element for one store, or undefined. */
export function positionOf(position: Position, store: string): StorePosition | undefined {
  for (const element of position) if (element.store === store) return element
  return undefined
}

/** The later of both for every store named in either. Elements of another incarnation of a store: `b` wins. */
export function mergePositions(a: Position, b: Position): Position {
  if (a.length === 0 || a === b) return b
  if (b.length === 0) return a
  const merged = new Map(a.map((element) => [element.store, element]))
  for (const element of b) {
    const known = merged.get(element.store)
    if (known === undefined || known.incarnation !== element.incarnation || compareInStore(known, element) < 0) {
      merged.set(element.store, element)
    }
  }
  return [...merged.values()].sort((x, y) => (x.store < y.store ? -1 : 1))
}

/** Order of two positions of one incarnation of one store. */
export function compareInStore(a: StorePosition, b: StorePosition): number {
  return a.revision - b.revision || a.ordinal - b.ordinal
}

/** The text form that HTTP, the CLI and JSON carry: opaque, URL-safe, `-` for no position. */
export function encodePosition(position: Position): string {
  if (position.length === 0) return '-'
  const rows = position.map((p) => [p.store, p.incarnation, p.revision, p.ordinal])
  return Buffer.from(JSON.stringify(rows)).toString('base64url')
}

/** @throws NineError `invalid` for anything encodePosition did not make */
export function decodePosition(text: string, op = 'position.decode'): Position {
  if (text === '-') return noPosition
  try {
    const rows: unknown = JSON.parse(Buffer.from(text, 'base64url').toString())
    if (Array.isArray(rows) && rows.length > 0 && rows.length <= 1024) return rows.map(toElement)
  } catch {
    // Answered below, like every other text that is no position.
  }
  throw new NineError({ kind: 'invalid', op, message: `${JSON.stringify(text.slice(0, 64))} is not a position` })
}

function toElement(row: unknown): StorePosition {
  const [store, incarnation, revision, ordinal] = row as [unknown, unknown, unknown, unknown]
  if (typeof store !== 'string' || typeof incarnation !== 'string' || !isCount(revision) || !isCount(ordinal)) {
    throw new TypeError('not a position')
  }
  return { store, incarnation, revision, ordinal }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
