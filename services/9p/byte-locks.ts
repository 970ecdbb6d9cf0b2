/**
 * Advisory locks of byte ranges, as fcntl(2) has them, among the clients of one edge.
 *
 * B1 Locks of one owner do not conflict: a new one replaces what it covers of the owner's older ones, splitting them.
 * B2 Who cannot have a lock is told so and asks again; nobody waits here.
 * B3 A lock goes with the fid it was taken through.
 */
import { refusal } from './failures.ts'

export type LockType = 'read' | 'write'

export interface ByteLock {
  readonly type: LockType
  readonly start: number
  /** Exclusive; Infinity: to the end of the file, however it grows. */
  readonly end: number
  readonly owner: string
  readonly procId: number
  readonly clientId: string
  /** The fid it was taken through. */
  readonly holder: object
}

export class ByteLocks {
  readonly #ofFile = new Map<number, ByteLock[]>()
  readonly #filesOf = new Map<object, Set<number>>()
  readonly #max: number
  #count = 0

  constructor(max: number) {
    this.#max = max
  }

  get size(): number {
    return this.#count
  }

  /** The first lock of another owner that stands in the way of `wanted`. */
  conflict(file: number, wanted: ByteLock): ByteLock | undefined {
    return this.#ofFile
      .get(file)
      ?.find(
        (lock) =>
          lock.owner !== wanted.owner &&
          lock.start < wanted.end &&
          wanted.start < lock.end &&
          (lock.type === 'write' || wanted.type === 'write'),
      )
  }

  /** Whether the owner has it now. @throws NineError `overloaded` */
  take(file: number, wanted: ByteLock): boolean {
    if (this.conflict(file, wanted) !== undefined) return false // B2
    this.#checkRoom()
    this.#cut(file, wanted.owner, wanted.start, wanted.end) // B1
    this.#put(file, [...(this.#ofFile.get(file) ?? []), wanted])
    const files = this.#filesOf.get(wanted.holder)
    if (files === undefined) this.#filesOf.set(wanted.holder, new Set([file]))
    else files.add(file)
    return true
  }

  /** @throws NineError `overloaded` where it would leave one lock more than there is room for */
  release(file: number, owner: string, start: number, end: number): void {
    this.#cut(file, owner, start, end)
  }

  /** B3 */
  releaseOf(holder: object): void {
    const files = this.#filesOf.get(holder)
    if (files === undefined) return
    this.#filesOf.delete(holder)
    for (const file of files)
      this.#put(
        file,
        (this.#ofFile.get(file) ?? []).filter((lock) => lock.holder !== holder),
      )
  }

  #cut(file: number, owner: string, start: number, end: number): void {
    const locks = this.#ofFile.get(file)
    if (locks === undefined) return
    const kept = locks.flatMap((lock) => {
      if (lock.owner !== owner || lock.end <= start || end <= lock.start) return [lock]
      const left = lock.start < start ? [{ ...lock, end: start }] : []
      const right = end < lock.end ? [{ ...lock, start: end }] : []
      return [...left, ...right]
    })
    // A hole in the middle makes two of one.
    if (kept.length > locks.length) this.#checkRoom()
    this.#put(file, kept)
  }

  #checkRoom(): void {
    if (this.#count >= this.#max) throw refusal('overloaded', `the node keeps at most ${this.#max} byte-range locks`)
  }

  #put(file: number, locks: ByteLock[]): void {
    this.#count += locks.length - (this.#ofFile.get(file)?.length ?? 0)
    if (locks.length === 0) this.#ofFile.delete(file)
    else this.#ofFile.set(file, locks)
  }
}
