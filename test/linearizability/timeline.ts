/**
 * What the answers and the watches of a history tell of each file's past, by revision. A store counts its changes, so every
 * answer that shows a revision says which past it shows; all of them have to tell of one past. Of keys between which files are renamed
 * it tells when something changed there, not what: a file's own revision is that of its last change, wherever it was then.
 */
import { roamingKeys, stepsTaken } from './history.ts'
import type { At, History, Key, Operation } from './history.ts'

/** One change of one file. */
export interface Change {
  readonly key: Key
  readonly revision: number
  /** Nothing is there after it. */
  isRemoved: boolean | undefined
  /** Where it was told. An append is told by whoever reads it. */
  value: string | undefined
  /** After it; of a removal, as the file last was. */
  at: At | undefined
  /** What it was told by, for people. */
  by: string
  /** When it was asked for, where that is known. */
  start: number | undefined
}

export class Timeline {
  /** Of a key, by revision. */
  readonly changes = new Map<Key, Change[]>()
  readonly roaming: ReadonlySet<Key>
  /** What does not fit together. */
  readonly problems: string[] = []
  readonly #byPlace = new Map<string, Change>()
  readonly #byVersion = new Map<string, Change>()
  readonly #byLife = new Map<number, Change>()

  constructor({ operations, watches }: History) {
    this.roaming = roamingKeys(operations)
    for (const operation of operations) this.#hear(operation)
    for (const { name, told } of watches) {
      for (const { type, key, from, revision, at, value } of told) {
        const by = `watch ${name}`
        if (type === 'rename' && from !== undefined) this.#moved(from, key, revision, by, undefined)
        else this.#add({ key, revision, isRemoved: type === 'remove', value, at, by, start: undefined })
      }
    }
    for (const change of this.#byPlace.values()) {
      const list = this.changes.get(change.key) ?? []
      this.changes.set(change.key, list)
      list.push(change)
    }
    for (const list of this.changes.values()) list.sort((a, b) => a.revision - b.revision)
  }

  /** The last change known of `key` at or before `revision`. */
  lastAt(key: Key, revision: number): Change | undefined {
    const list = this.changes.get(key) ?? []
    let low = 0
    let high = list.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (list[middle]!.revision <= revision) low = middle + 1
      else high = middle
    }
    return list[low - 1]
  }

  #hear(operation: Operation): void {
    const { result, start, id } = operation
    const by = `#${id}`
    if (operation.request.do === 'stale' && result?.was === 'read') this.#read(operation.request.key, result, by)
    for (const { step, result: answer } of stepsTaken(operation)) {
      if (answer === undefined) continue
      if (step.do === 'read') {
        if (answer.was === 'read') this.#read(step.key, answer, by)
        continue
      }
      if (answer.was !== 'done' || result?.revision === undefined) continue
      if (step.do === 'rename') {
        this.#moved(step.key, step.to, result.revision, by, start)
        continue
      }
      const value = step.do === 'write' ? step.value : undefined
      this.#add({ key: step.key, revision: result.revision, isRemoved: step.do === 'delete', value, at: answer.at, by, start })
    }
  }

  #moved(from: Key, to: Key, revision: number, by: string, start: number | undefined): void {
    this.#add({ key: from, revision, isRemoved: true, value: undefined, at: undefined, by, start })
    this.#add({ key: to, revision, isRemoved: undefined, value: undefined, at: undefined, by, start })
  }

  #read(key: Key, answer: { value: string; at?: At; changed?: number }, by: string): void {
    const { value, at, changed } = answer
    if (changed !== undefined && !this.roaming.has(key))
      this.#add({ key, revision: changed, isRemoved: false, value, at, by, start: undefined })
  }

  #add(change: Change): void {
    const place = `${change.revision} ${change.key}`
    const known = this.#byPlace.get(place)
    if (known === undefined) this.#byPlace.set(place, change)
    else this.#merge(known, change, `${change.key} at revision ${change.revision}`)
    if (change.at === undefined || this.roaming.has(change.key)) return
    const other = this.#byLife.get(change.at.life) ?? change
    this.#byLife.set(change.at.life, other)
    if (other.key !== change.key) {
      this.problems.push(`file ${change.at.life} is ${other.key} (${other.by}) and ${change.key} (${change.by})`)
    }
    if (change.isRemoved === true) return
    const version = `${change.at.life} ${change.at.version} ${change.key}`
    const same = this.#byVersion.get(version)
    if (same === undefined) this.#byVersion.set(version, this.#byPlace.get(place)!)
    else if (same.revision !== change.revision) {
      const { life, version: count } = change.at
      this.problems.push(
        `version ${count} of file ${life} (${change.key}) is of revision ${same.revision} (${same.by}) and of revision ${change.revision} (${change.by})`,
      )
    }
  }

  #merge(known: Change, told: Change, what: string): void {
    const differ = (a: unknown, b: unknown): boolean => a !== undefined && b !== undefined && JSON.stringify(a) !== JSON.stringify(b)
    if (differ(known.isRemoved, told.isRemoved) || differ(known.value, told.value) || differ(known.at, told.at)) {
      const say = ({ isRemoved, value, at }: Change): string => (isRemoved === true ? 'removed' : JSON.stringify({ value, ...at }))
      this.problems.push(`${what} is told in two ways: ${say(known)} (${known.by}), ${say(told)} (${told.by})`)
    }
    known.value ??= told.value
    known.at ??= told.at
    known.start ??= told.start
  }
}
