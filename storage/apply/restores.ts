/**
 * Restores of a store while it serves: what was restored last, and which were made or given up. A restore is an entry like any other, so
 * it has its place among the changes of the store on every node, and all else follows from that.
 *
 * E1 A restore of one id is made at most once, and one that was given up never is: entries that name it later change nothing. So who gave
 *    it up, or sees it made, knows that its backup is not needed for entries behind.
 * E2 A restored store is another incarnation: positions from before are of no use in it.
 * E3 It keeps its clients, but not what they were answered: what is asked again is neither done again nor called done (clients.ts).
 * E4 A command that acts on a file by its number names the restore since which it knows that number: where another was made since, it is
 *    refused, since the number may be that of another file.
 */
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { rootPath } from '../../namespace/path.ts'
import type { Entry, RestoreCommand } from '../model.ts'
import { refusal } from './change.ts'

/** Key of what is saved of them. */
export const restoresKey = 'restores'

export interface KnownRestore {
  readonly id: string
  /** Of the entry that made it, or gave it up. */
  readonly index: number
  /** False: it was given up. */
  readonly isDone: boolean
}

/** Immutable. */
export class Restores {
  /** Of the store since it was restored last; undefined: the one it was made with. */
  readonly incarnation: string | undefined
  /** Index of the last restore that ends handles; undefined: none did. E4 */
  readonly restoredAt: number | undefined
  readonly #known: readonly KnownRestore[]

  constructor(incarnation?: string, known: readonly KnownRestore[] = [], restoredAt?: number) {
    this.incarnation = incarnation
    this.#known = known
    this.restoredAt = restoredAt
  }

  get isEmpty(): boolean {
    return this.#known.length === 0
  }

  /** The oldest first. */
  get all(): readonly KnownRestore[] {
    return this.#known
  }

  find(id: string): KnownRestore | undefined {
    return this.#known.find((known) => known.id === id)
  }

  with(restore: KnownRestore, incarnation: string | undefined, endsHandles = false): Restores {
    const restoredAt = endsHandles ? restore.index : this.restoredAt
    return new Restores(incarnation, [...this.#known, restore].slice(-limits.restores_known_max), restoredAt)
  }

  renewed(incarnation: string): Restores {
    return new Restores(incarnation, this.#known, this.restoredAt)
  }

  /** Why a restore that this entry does not make is an error. E1 */
  refusal({ actor }: Entry, { id, backup }: RestoreCommand, owner: string): NineError | undefined {
    if (actor !== owner) return refusal('denied', op, rootPath, 'a store is restored by its owner')
    const known = this.find(id)
    if (known === undefined) {
      return backup === undefined ? undefined : refusal('invalid', op, rootPath, 'the backup is of a later time than the store is at')
    }
    if (known.isDone === (backup !== undefined)) return undefined
    return refusal('conflict', op, rootPath, known.isDone ? 'the restore was made' : 'the restore was given up')
  }

  encode(): Uint8Array {
    return Buffer.from(JSON.stringify({ format, incarnation: this.incarnation, known: this.#known, restoredAt: this.restoredAt }))
  }

  /** @throws NineError `corrupt` */
  static decode(bytes: Uint8Array): Restores {
    const value = JSON.parse(Buffer.from(bytes).toString()) as {
      format: number
      incarnation?: string
      known: KnownRestore[]
      restoredAt?: number
    }
    if (value.format === format) return new Restores(value.incarnation, value.known, value.restoredAt)
    throw new NineError({ kind: 'corrupt', op: 'apply.restores', message: `the restores of a store have format ${value.format}` })
  }
}

const op = 'apply.restore'
const format = 1
