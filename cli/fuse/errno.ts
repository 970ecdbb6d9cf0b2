/** Failures as Linux numbers them: NineErrors by the table of namespace/errors.ts, and what only a mount can say. */
import { errorTable, isNineError } from '../../namespace/errors.ts'

/** errno(3) on Linux, for answers that no kind of error stands for. */
export const errno = { EPERM: 1, ENOENT: 2, EIO: 5, EBADF: 9, ENODATA: 61, ERANGE: 34, EILSEQ: 84, EOPNOTSUPP: 95, ESTALE: 116 } as const

/** Thrown by an operation of a mount that fails with a number of its own. */
export class ErrnoError extends Error {
  readonly errno: number

  constructor(name: keyof typeof errno) {
    super(name)
    this.errno = errno[name]
  }
}

/** What the kernel is told: a negative number. */
export function errnoOf(error: unknown): number {
  if (error instanceof ErrnoError) return -error.errno
  return isNineError(error) ? -errorTable[error.kind].errno : -errno.EIO
}
