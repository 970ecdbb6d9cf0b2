/**
 * How members learn how far entries are committed. The next append tells them too; so while a group is written to without a pause, the word
 * that says only this is kept back for it, and costs neither end anything.
 *
 * W1 A word is kept back for one wait at least and two at most, and only where an append followed the one before it as soon; `tell` ends that.
 * W2 A later message with a commit index takes its place: an append, a heartbeat.
 * W3 Nothing is promised by it: who hears of a commit later applies later. Whoever reads asks for an index of its own, in a round of heartbeats.
 */
import type { Commit, Message, NodeId } from '../model.ts'

interface Word {
  /** Appends follow it soon. */
  isBusy: boolean
  /** Said, and it is not known yet whether an append follows soon. */
  isSaid: boolean
  kept: Commit | null
  /** It was kept when the wait under way began. */
  isOld: boolean
}

export class Notices {
  readonly #words = new Map<NodeId, Word>()

  /** A message is about to leave. @returns false: not now */
  mayLeave(message: Message): boolean {
    if (message.kind !== 'commit' && message.kind !== 'append' && message.kind !== 'heartbeat') return true
    let word = this.#words.get(message.to)
    if (message.kind === 'commit') {
      if (word === undefined) this.#words.set(message.to, (word = { isBusy: false, isSaid: false, kept: null, isOld: false }))
      word.isSaid = true
      if (!word.isBusy) return true
      word.kept = message
      word.isOld = false
      return false
    }
    if (word === undefined) return true
    word.kept = null // W2
    if (message.kind === 'append' && word.isSaid) word.isBusy = true
    return true
  }

  /** Something was said or kept since, and the end of a wait is to be told. */
  get isWaiting(): boolean {
    for (const { isSaid } of this.#words.values()) if (isSaid) return true
    return false
  }

  /** A wait is over: what leaves now. W1 */
  ended(term: number): Commit[] {
    const due: Commit[] = []
    for (const word of this.#words.values()) {
      if (word.kept !== null && !word.isOld) {
        word.isOld = true
        continue
      }
      word.isSaid = false
      if (word.kept !== null) take(word, term, due)
    }
    return due
  }

  /** What is kept leaves now: somebody waits for it. W1 */
  tell(term: number): Commit[] {
    const due: Commit[] = []
    for (const word of this.#words.values()) if (word.kept !== null) take(word, term, due)
    return due
  }
}

/** What was said under another term is nothing to say any more. */
function take(word: Word, term: number, due: Commit[]): void {
  if (word.kept!.term === term) due.push(word.kept!)
  word.kept = null
  word.isBusy = false
}
