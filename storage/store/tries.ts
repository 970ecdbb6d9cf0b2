/**
 * One change in as many tries as it takes until its outcome is known. All of them have one identity, so that it takes effect once: a later
 * try does not do again, over what others changed since, what an earlier one did.
 *
 * Alone there is nothing to it: where a node's log leaves an outcome unknown, it takes no further try.
 */
import type { OwnNumber } from '../replica/own-client.ts'

export class Tries {
  /** What a try of it was, or is, proposed as. */
  own: OwnNumber | undefined
  /** A try was given to a leader, and nobody knows what became of it. */
  isOut = false
  #isUnderWay = false
  #isOver = false

  begin(own: OwnNumber | undefined): void {
    this.own = own
    this.#isUnderWay = true
  }

  /** The try under way is answered. */
  ended(own: OwnNumber | undefined, isOut: boolean): void {
    this.own = own
    this.isOut = isOut
    this.#isUnderWay = false
    if (this.#isOver) this.#settle()
  }

  /** There is no further try. To be called once. */
  end(): void {
    this.#isOver = true
    if (!this.#isUnderWay) this.#settle()
  }

  #settle(): void {
    this.own?.lane.settle(this.own.seq)
  }
}
