/**
 * The one error class of the system and the one table that maps its kinds to HTTP, gRPC and errno.
 *
 * Nobody matches on message text: code decides on `kind`, people read `message`.
 */

/** Every kind an operation can fail with. The set is closed: a new kind is a change of the contract. */
export type ErrorKind = keyof typeof errorTable

/** Whether a failed mutation may have happened all the same. `none`: it did not. `unknown`: it may have. */
export type Outcome = 'none' | 'unknown'

export interface ErrorCodes {
  readonly http: number
  /** Canonical gRPC status code number (https://grpc.io/docs/guides/status-codes/). */
  readonly grpc: number
  /** errno name; `errno` is its Linux number. */
  readonly errnoName: string
  readonly errno: number
  /** Whether trying the same request again, later, can succeed without anything else changing. */
  readonly retryable: boolean
}

function row(http: number, grpc: number, errnoName: string, errno: number, retryable = false): ErrorCodes {
  return { http, grpc, errnoName, errno, retryable }
}

const FAILED_PRECONDITION = 9
const OUT_OF_RANGE = 11
const RESOURCE_EXHAUSTED = 8
const INVALID_ARGUMENT = 3
const INTERNAL = 13

export const errorTable = {
  not_found: row(404, 5, 'ENOENT', 2),
  exists: row(409, 6, 'EEXIST', 17),
  not_directory: row(409, FAILED_PRECONDITION, 'ENOTDIR', 20),
  is_directory: row(409, FAILED_PRECONDITION, 'EISDIR', 21),
  not_empty: row(409, FAILED_PRECONDITION, 'ENOTEMPTY', 39),
  conflict: row(412, 10, 'EAGAIN', 11),
  denied: row(403, 7, 'EACCES', 13),
  unauthenticated: row(401, 16, 'EPERM', 1),
  invalid: row(400, INVALID_ARGUMENT, 'EINVAL', 22),
  name_too_long: row(400, INVALID_ARGUMENT, 'ENAMETOOLONG', 36),
  too_large: row(413, OUT_OF_RANGE, 'EFBIG', 27),
  no_space: row(507, RESOURCE_EXHAUSTED, 'ENOSPC', 28, true),
  overloaded: row(429, RESOURCE_EXHAUSTED, 'EBUSY', 16, true),
  unavailable: row(503, 14, 'EHOSTUNREACH', 113, true),
  deadline: row(504, 4, 'ETIMEDOUT', 110, true),
  compacted: row(410, OUT_OF_RANGE, 'ESTALE', 116),
  cross_store: row(409, FAILED_PRECONDITION, 'EXDEV', 18),
  read_only: row(403, 7, 'EROFS', 30),
  loop: row(508, FAILED_PRECONDITION, 'ELOOP', 40),
  unsupported: row(501, 12, 'EOPNOTSUPP', 95),
  corrupt: row(500, 15, 'EIO', 5),
  internal: row(500, INTERNAL, 'EIO', 5),
} as const satisfies Record<string, ErrorCodes>

/** All kinds, in the order of the table. Their index is their number on the wire; new kinds go at the end. */
export const errorKinds = Object.keys(errorTable) as readonly ErrorKind[]

export interface NineErrorFields {
  readonly kind: ErrorKind
  /** `folder.verb` of the public boundary that failed, for example `store.write`. */
  readonly op: string
  /** The path the caller used, or '' where the failure has none. */
  readonly path?: string
  readonly message: string
  /** Default: what the table says of the kind. */
  readonly retryable?: boolean
  /** Default `none`. */
  readonly outcome?: Outcome
  readonly cause?: unknown
  /** Where to go on: an encoded position, for `compacted` and `overloaded` ends of a watch. */
  readonly resume?: string
}

/** The one error class. Structured-cloneable through {@link NineError.fields}. */
export class NineError extends Error {
  override readonly name = 'NineError'
  readonly kind: ErrorKind
  readonly op: string
  readonly path: string
  readonly retryable: boolean
  readonly outcome: Outcome
  readonly resume: string | undefined

  constructor(fields: NineErrorFields) {
    super(fields.message, fields.cause === undefined ? undefined : { cause: fields.cause })
    this.kind = fields.kind
    this.op = fields.op
    this.path = fields.path ?? ''
    this.retryable = fields.retryable ?? errorTable[fields.kind].retryable
    this.outcome = fields.outcome ?? 'none'
    this.resume = fields.resume
  }

  /** The plain data of this error, without cause and stack: what crosses a wire or a thread. */
  get fields(): NineErrorFields {
    const { kind, op, path, message, retryable, outcome, resume } = this
    return { kind, op, path, message, retryable, outcome, resume }
  }

  /** The same failure seen under another path and, when given, at another boundary. */
  at(path: string, op: string = this.op): NineError {
    if (path === this.path && op === this.op) return this
    return new NineError({ ...this.fields, path, op, cause: this })
  }
}

export function isNineError(value: unknown, kind?: ErrorKind): value is NineError {
  return value instanceof NineError && (kind === undefined || value.kind === kind)
}

/**
 * Any thrown value as a NineError: itself when it is one, `deadline` for an aborted or timed-out signal, otherwise
 * `internal` with the value as cause. The message of a foreign error is kept: it is for the operator who reads it.
 */
export function toNineError(value: unknown, op: string, path = ''): NineError {
  if (value instanceof NineError) return value
  const kind = value instanceof Error && (value.name === 'AbortError' || value.name === 'TimeoutError') ? 'deadline' : 'internal'
  return new NineError({ kind, op, path, message: textOf(value), outcome: 'unknown', cause: value })
}

/** What a thrown value says of itself, for whoever reads it. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
