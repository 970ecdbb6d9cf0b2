/** What the command line exits with: 0 done, 1 done but not equal or nothing found, 2 wrong usage, and one number a kind of error. */
import { errorKinds } from '../namespace/errors.ts'
import type { ErrorKind } from '../namespace/errors.ts'

export const exitCodes = { done: 0, no: 1, usage: 2 } as const
const first_kind_code = 10

/** 10 for the first kind of namespace/errors.ts, and so on; new kinds go at the end, so numbers stay. */
export function exitCodeOf(kind: ErrorKind): number {
  return first_kind_code + errorKinds.indexOf(kind)
}

/** The table for `nine help exit-codes`. */
export function exitCodeTable(): string {
  const rows = errorKinds.map((kind) => `  ${String(exitCodeOf(kind)).padEnd(4)} ${kind}`)
  return ['  0    done', '  1    the answer is no: trees differ, nothing matched', '  2    wrong usage', ...rows].join('\n')
}
