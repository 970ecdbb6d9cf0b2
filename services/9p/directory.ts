/**
 * Reading a directory through a fid: entries in the order of their names, page after page.
 *
 * P1 A read goes on after the name at which the read before it ended, so what is made or removed meanwhile moves nothing.
 * P2 A cookie stands for the name it follows. Those of the last limits.ninep_directory_cookies_max entries are kept one by one; of older
 *    ones the last of each page, half as many at most, and of those before nothing. So going back there shows some entries again, at worst
 *    all, and leaves none out.
 * P3 An entry that does not fit is kept for the next read; no entry is split.
 */
import type { Context } from '../../namespace/context.ts'
import { isNineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { joinName } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Stat } from '../../namespace/stat.ts'
import type { WireQid } from '../../proto/ninep/messages.ts'
import { refusal } from './failures.ts'
import type { Qids } from './qids.ts'

export interface DirectoryEntry {
  readonly stat: Stat
  readonly qid: WireQid
}

/** Takes an entry, with the cookie to go on after it; false when it has no room for it. */
export type EntryTaker = (entry: DirectoryEntry, cookie: number) => boolean

/** Bytes of an entry of either dialect without its name, at least: how many entries a read can take is known from it. */
const entry_bytes_min = 24
/** Entries that wait between two reads, at most. */
const waiting_max = 1024

export class DirectoryStream {
  readonly #server: FileServer
  readonly #qids: Qids
  /** Cookies and the names they follow, in order. Numbers only grow, over rewinds too, so that none stands for two names. */ // P2
  #cookies: { readonly cookie: number; readonly name: string | undefined; readonly endsPage: boolean }[] = []
  /** Read and not yet taken. */ // P3
  #waiting: DirectoryEntry[] = []
  #next = 0
  #isAtEnd = false
  #lastCookie = 0
  /** Cookie of the entry that the next one follows, 0 at the start, and its name. */
  #cookie = 0
  #name: string | undefined
  /** Bytes of 9P2000's directory given so far, and where the last read of them began, to which a client whose read was flushed comes back. */
  #offset = 0
  #before = { offset: 0, cookie: 0 }
  #turn: Promise<unknown> = Promise.resolve()

  constructor(server: FileServer, qids: Qids) {
    this.#server = server
    this.#qids = qids
  }

  get cookiesKept(): number {
    return this.#cookies.length
  }

  get entriesWaiting(): number {
    return this.#waiting.length - this.#next
  }

  /** Reads of one stream happen one after the other, in the order they came. */
  inTurn<T>(read: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(read)
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  /** Begin anew, or after the entry that has this cookie. @throws NineError `invalid` for a cookie that was never given */
  seek(cookie: number): void {
    if (cookie === this.#cookie && cookie !== 0) return
    if (cookie > this.#lastCookie || cookie < 0) throw refusal('invalid', 'no entry of this directory had that cookie')
    let low = 0
    let high = this.#cookies.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#cookies[middle]!.cookie <= cookie) low = middle + 1
      else high = middle
    }
    const known = cookie === 0 ? undefined : this.#cookies[low - 1]
    this.#cookie = cookie
    this.#name = known?.name
    this.#waiting = []
    this.#next = 0
    this.#isAtEnd = false
    // What follows goes on after this name, not after that of the cookie before it.
    if (this.#cookies.length > 0) this.#cookies.push({ cookie: ++this.#lastCookie, name: this.#name, endsPage: true })
  }

  /** @throws NineError `invalid` for an offset that is neither 0 nor where the last read began or ended */
  seekBytes(offset: number): void {
    if (offset === 0) this.seek(0)
    else if (offset === this.#before.offset) this.seek(this.#before.cookie)
    else if (offset !== this.#offset) throw refusal('invalid', 'a directory is read from its start or from where the last read ended')
    this.#offset = offset
    this.#before = { offset, cookie: this.#cookie }
  }

  moved(bytes: number): void {
    this.#offset += bytes
  }

  /** Hand entries to `take` until it has no room or there are no more. @param bytes about how many are wanted */
  async fill(context: Context, path: Path, bytes: number, take: EntryTaker): Promise<void> {
    for (;;) {
      while (this.#next < this.#waiting.length) {
        const entry = this.#waiting[this.#next]!
        if (!take(entry, this.#lastCookie + 1)) {
          this.#keepWaiting()
          return this.#endPage()
        }
        this.#next++
        this.#cookie = ++this.#lastCookie
        this.#name = entry.stat.name
        this.#cookies.push({ cookie: this.#cookie, name: this.#name, endsPage: false })
      }
      if (this.#isAtEnd) return this.#endPage()
      await this.#load(context, path, bytes)
    }
  }

  async #load(context: Context, path: Path, bytes: number): Promise<void> {
    const limit = Math.max(16, Math.min(limits.list_page_entries_max, Math.ceil(bytes / entry_bytes_min)))
    const page = await this.#server.list(context, path, { after: this.#name, limit }) // P1
    // Only of one store are the numbers of all entries told by the page itself.
    const isOneStore = page.position.length === 1
    const entries: DirectoryEntry[] = []
    for (const stat of page.entries) {
      const at = joinName(path, stat.name)
      const qid = isOneStore ? this.#qids.of(stat, at, page.position) : await this.#qidOf(context, at, stat)
      entries.push({ stat, qid })
    }
    this.#waiting = entries
    this.#next = 0
    this.#isAtEnd = page.next === undefined
  }

  async #qidOf(context: Context, path: Path, listed: Stat): Promise<WireQid> {
    try {
      const { stat, position } = await this.#server.stat(context, path)
      return this.#qids.of(stat, path, position)
    } catch (error) {
      // Gone, or not to be reached: it is listed all the same, as the page has it.
      if (isNineError(error)) return this.#qids.of(listed, path, [])
      throw error
    }
  }

  /** What did not fit is kept for the next read, but not a page of ten thousand for each directory that is open. */
  #keepWaiting(): void {
    if (this.#waiting.length - this.#next <= waiting_max) return
    this.#waiting = this.#waiting.slice(this.#next, this.#next + waiting_max)
    this.#next = 0
    this.#isAtEnd = false
  }

  /** P2 */
  #endPage(): void {
    const last = this.#cookies.length - 1
    if (last < 0) return
    this.#cookies[last] = { ...this.#cookies[last]!, endsPage: true }
    const max = limits.ninep_directory_cookies_max
    if (this.#cookies.length < 2 * max) return
    const old = this.#cookies.length - max
    const ends = this.#cookies.slice(0, old).filter(({ endsPage }) => endsPage)
    this.#cookies = [...ends.slice(-max / 2), ...this.#cookies.slice(old)]
  }
}
