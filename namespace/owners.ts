/**
 * Principals as Linux's numbers and back, for one who looks through a mount or an attach: the principal is the user who asks, a name
 * that is a number is that number, everybody else is nobody. The numbers say nothing about rights, which names alone decide.
 */

/** uid and gid of whom has no number: nobody and nogroup on Linux. */
export const nobody = 65_534
/** A uid or gid of all ones means none, or in chown(2) "leave it". */
const none = 0xffff_ffff

export class Owners {
  readonly #principal: string
  readonly #uid: number
  readonly #gid: number

  constructor(principal: string, uid: number, gid: number) {
    this.#principal = principal
    this.#uid = uid
    this.#gid = gid
  }

  uidOf(owner: string): number {
    return this.#idOf(owner, this.#uid)
  }

  gidOf(group: string): number {
    return this.#idOf(group, this.#gid)
  }

  /** undefined: leave it as it is. */
  ownerOf(uid: number): string | undefined {
    return this.#nameOf(uid, this.#uid)
  }

  groupOf(gid: number): string | undefined {
    return this.#nameOf(gid, this.#gid)
  }

  #idOf(name: string, own: number): number {
    if (name === this.#principal || name === '') return own
    const number = Number(name)
    return /^\d{1,10}$/.test(name) && number < none ? number : nobody
  }

  #nameOf(id: number, own: number): string | undefined {
    if (id === none) return undefined
    return id === own ? this.#principal : String(id)
  }
}
