/** Ninefold's own attributes as extended attributes of files (xattr(7)): `user.nine.*`. */
import { isUtf8 } from 'node:buffer'
import type { StatChanges } from '../../namespace/file-server.ts'
import type { Stat } from '../../namespace/stat.ts'
import { refusal } from './failures.ts'

const readers: Record<string, (stat: Stat) => string | undefined> = {
  'user.nine.version': (stat) => String(stat.version),
  'user.nine.revision': (stat) => String(stat.revision),
  'user.nine.modifiedBy': (stat) => stat.modifiedBy,
  'user.nine.contentType': (stat) => stat.contentType,
}

/** The value, or with an empty name the list of names, each ended by NUL. @throws NineError `unsupported` for others */
export function readAttribute(stat: Stat, name: string): Buffer {
  if (name === '') {
    const names = Object.keys(readers).filter((key) => readers[key]!(stat) !== undefined)
    return Buffer.from(names.map((key) => `${key}\0`).join(''))
  }
  const value = Object.hasOwn(readers, name) ? readers[name]!(stat) : undefined
  if (value === undefined) throw refusal('unsupported', `there is no attribute ${name}`)
  return Buffer.from(value)
}

/** What setting `name` changes. @throws NineError `invalid` for what is no text, `unsupported` for all others */
export function attributeChange(name: string, value: Buffer): StatChanges {
  if (name === 'user.nine.contentType') {
    if (!isUtf8(value)) throw refusal('invalid', 'a content type is a text')
    return { contentType: value.toString() }
  }
  // Also for those that only tell: programs that copy attributes with a file (mv, cp -a) pass over what is unsupported in silence.
  throw refusal('unsupported', 'only user.nine.contentType can be set')
}
