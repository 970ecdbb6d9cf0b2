/** Ninefold's own attributes as 9P2000.L carries them, as bytes. */
import { isUtf8 } from 'node:buffer'
import type { StatChanges } from '../../namespace/file-server.ts'
import { contentTypeAttribute, ownAttribute, ownAttributeNames } from '../../namespace/own-attributes.ts'
import type { Stat } from '../../namespace/stat.ts'
import { refusal } from './failures.ts'

/** The value, or with an empty name the list of names, each ended by NUL. @throws NineError `unsupported` for others */
export function readAttribute(stat: Stat, name: string): Buffer {
  if (name === '') {
    return Buffer.from(
      ownAttributeNames(stat)
        .map((key) => `${key}\0`)
        .join(''),
    )
  }
  const value = ownAttribute(stat, name)
  if (value === undefined) throw refusal('unsupported', `there is no attribute ${name}`)
  return Buffer.from(value)
}

/** What setting `name` changes. @throws NineError `invalid` for what is no text, `unsupported` for all others */
export function attributeChange(name: string, value: Buffer): StatChanges {
  if (name === contentTypeAttribute) {
    if (!isUtf8(value)) throw refusal('invalid', 'a content type is a text')
    return { contentType: value.toString() }
  }
  // Also for those that only tell: programs that copy attributes with a file (mv, cp -a) pass over what is unsupported in silence.
  throw refusal('unsupported', 'only user.nine.contentType can be set')
}
