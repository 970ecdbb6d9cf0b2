/**
 * Names of principals as Linux's numbers and back, for one attach.
 *
 * The principal who attached is the user its client says it is (n_uname), else the user this process runs as. A name that is a
 * number is that number. Everybody else is `nobody`: numbers say nothing about rights, which names alone decide.
 */
import { noUid } from '../../proto/ninep/messages.ts'

/** uid and gid of whom has no number: nobody and nogroup on Linux. */
const nobody = 65_534

export class Owners {
  readonly #name: string
  readonly #uid: number

  constructor(name: string, uid: number) {
    this.#name = name
    this.#uid = uid === noUid ? (process.getuid?.() ?? nobody) : uid
  }

  idOf(name: string): number {
    if (name === this.#name || name === '') return this.#uid
    const number = Number(name)
    return /^\d{1,10}$/.test(name) && number < noUid ? number : nobody
  }

  nameOf(id: number): string {
    return id === this.#uid ? this.#name : String(id)
  }
}
