/** The binary form of rights records. */
import { NineError } from '../../namespace/errors.ts'
import { allRights, type Right, type RightsEntry, type RightsRecord } from '../../namespace/rights.ts'
import type { ByteReader } from './byte-reader.ts'
import type { ByteWriter } from './byte-writer.ts'

/** @throws NineError `invalid` for a right that is none */
export function writeRights(out: ByteWriter, record: RightsRecord | undefined): void {
  if (record === undefined) {
    out.count(0)
    return
  }
  out.count(1 + record.length)
  for (const { who, rights } of record) {
    out.text(who)
    out.count(rights.length)
    for (const right of rights) {
      const number = allRights.indexOf(right)
      if (number < 0) throw new NineError({ kind: 'invalid', op: 'apply.encode', message: `${String(right)} is not a right` })
      out.byte(number)
    }
  }
}

/** @throws NineError `corrupt` */
export function readRights(reader: ByteReader): RightsRecord | undefined {
  const count = reader.count()
  if (count === 0) return undefined
  const record: RightsEntry[] = []
  for (let left = count - 1; left > 0; left--) {
    const who = reader.text()
    const rights: Right[] = []
    for (let more = reader.countOfItems(); more > 0; more--) {
      const right = allRights[reader.byte()]
      if (right === undefined) throw reader.corrupt('a right is not known')
      rights.push(right)
    }
    record.push({ who, rights })
  }
  return record
}
