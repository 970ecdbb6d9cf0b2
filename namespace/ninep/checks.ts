/** What is asked of a 9P server is checked before anything is sent: what is malformed is `invalid`, what 9P cannot carry `unsupported`. */
import type { CreateOptions, IfMatch, ReadOptions, StatChanges } from '../file-server.ts'
import { NineError } from '../errors.ts'
import type { ErrorKind } from '../errors.ts'
import { limits } from '../limits.ts'
import type { Path } from '../path.ts'

/** Whose arguments they are, for errors. */
export interface Asked {
  readonly op: string
  readonly path: Path
}

/** The present is all there is; it is as new as any position. */
export function checkReading(asked: Asked, { at }: ReadOptions): void {
  if (at !== undefined) throw refuse(asked, 'unsupported', 'a 9P server shows no past')
}

/** A version is no condition that 9P can hold; that nothing is there is one for who makes something. */
export function checkCondition(asked: Asked, ifMatch: IfMatch | undefined, canMake: boolean): void {
  if (ifMatch === undefined || (ifMatch === 'none' && canMake)) return
  throw refuse(asked, 'unsupported', 'a 9P server changes nothing under the condition of a version')
}

export function checkMaking(asked: Asked, options: CreateOptions): void {
  checkAttributes(asked, options)
  checkCondition(asked, options.ifMatch, true)
  if (options.lease !== undefined || options.ttlMs !== undefined) throw refuse(asked, 'unsupported', 'a 9P server has no leases')
}

export function checkAttributes(asked: Asked, { mode, modifiedAt, contentType, owner, group }: Omit<StatChanges, 'size'>): void {
  if (mode !== undefined && !(Number.isInteger(mode) && mode >= 0 && mode <= 0o7777)) {
    throw refuse(asked, 'invalid', 'a mode is a number from 0 to 0o7777')
  }
  if (modifiedAt !== undefined && !(Number.isSafeInteger(modifiedAt) && modifiedAt >= 0)) {
    throw refuse(asked, 'invalid', 'a time is a whole number of microseconds from 1970 on')
  }
  for (const text of [contentType, owner, group]) {
    if (text !== undefined && (Buffer.byteLength(text) > limits.attribute_bytes_max || text.includes('\0'))) {
      throw refuse(asked, 'invalid', `content type, owner and group have at most ${limits.attribute_bytes_max} bytes, none of them NUL`)
    }
  }
  if (contentType !== undefined) throw refuse(asked, 'unsupported', 'a 9P server keeps no content types')
}

/** An offset, length or size. */
export function checkCount(asked: Asked, count: number | undefined): void {
  if (count === undefined || (Number.isSafeInteger(count) && count >= 0)) return
  throw refuse(asked, 'invalid', `${count} is no offset, length or size`)
}

export function checkSize(asked: Asked, offset: number, length: number): void {
  checkCount(asked, offset)
  if (offset + length > limits.file_bytes_max) throw refuse(asked, 'too_large', `a file has at most ${limits.file_bytes_max} bytes`)
}

export function checkValue(asked: Asked, bytes: Uint8Array): void {
  if (bytes.length <= limits.write_bytes_max) return
  throw refuse(asked, 'too_large', `one write carries at most ${limits.write_bytes_max} bytes: a handle takes more`)
}

export function checkTarget(asked: Asked, target: string): void {
  if (target === '' || target.includes('\0')) throw refuse(asked, 'invalid', 'a link has a target without NUL')
  if (Buffer.byteLength(target) > limits.symlink_bytes_max) {
    throw refuse(asked, 'name_too_long', `a target has at most ${limits.symlink_bytes_max} bytes`)
  }
}

/** A limit of a page. */
export function pageLimit(asked: Asked, count: number | undefined, byDefault: number, max: number): number {
  if (count === undefined) return byDefault
  if (Number.isSafeInteger(count) && count > 0) return Math.min(count, max)
  throw refuse(asked, 'invalid', 'the limits of a page are whole numbers from 1')
}

export function refuse({ op, path }: Asked, kind: ErrorKind, message: string): NineError {
  return new NineError({ kind, op, path, message })
}
