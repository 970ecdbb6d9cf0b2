/** Reads what ByteWriter wrote. Whatever the bytes are, it ends with the value or with `corrupt`, and takes no memory that they do not fill. */
import { NineError } from '../../namespace/errors.ts'

/** Up to here a loop is faster than the native call; beyond it makes a string for each of its steps. */
const loop_length_max = 6
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export class ByteReader {
  readonly #bytes: Buffer
  readonly #what: string
  #at = 0

  /** `what` is named in errors. */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#what = what
  }

  byte(): number {
    if (this.#at >= this.#bytes.length) throw this.corrupt('it is cut short')
    return this.#bytes[this.#at++]!
  }

  count(): number {
    let value = 0
    let scale = 1
    for (let i = 0; i < 8; i++) {
      const byte = this.byte()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) break
        return value
      }
      scale *= 0x80
    }
    throw this.corrupt('a count is too large')
  }

  /** Number of things that follow, of which each takes at least a byte. */
  countOfItems(): number {
    const count = this.count()
    if (count > this.#bytes.length - this.#at) throw this.corrupt('it is cut short')
    return count
  }

  number(): number {
    const at = this.#skip(8)
    return this.#bytes.readDoubleLE(at)
  }

  text(): string {
    const size = this.count()
    const at = this.#skip(size)
    const bytes = this.#bytes
    if (size <= loop_length_max) {
      let text = ''
      let i = 0
      for (; i < size; i++) {
        const code = bytes[at + i]!
        if (code >= 0x80) break
        text += String.fromCharCode(code)
      }
      if (i === size) return text
    }
    for (let i = 0; i < size; i++) if (bytes[at + i]! >= 0x80) return this.#decode(at, size)
    return bytes.toString('latin1', at, at + size)
  }

  /** A text that is often `likely`, which is then not made anew. */
  textLike(likely: string): string {
    const bytes = this.#bytes
    const at = this.#at
    const { length } = likely
    if (length < 0x80 && bytes[at] === length && at + length < bytes.length) {
      let i = 0
      while (i < length && bytes[at + 1 + i] === likely.charCodeAt(i) && bytes[at + 1 + i]! < 0x80) i++
      if (i === length) {
        this.#at = at + 1 + length
        return likely
      }
    }
    return this.text()
  }

  /** A view of the input. */
  bytes(): Uint8Array {
    const size = this.count()
    const at = this.#skip(size)
    return this.#bytes.subarray(at, at + size)
  }

  /** Everything that was not read yet: a view of the input. */
  rest(): Uint8Array {
    const at = this.#at
    this.#at = this.#bytes.length
    return this.#bytes.subarray(at)
  }

  /** @throws NineError `corrupt` unless everything was read */
  end(): void {
    if (this.#at !== this.#bytes.length) throw this.corrupt('something follows it')
  }

  corrupt(why: string): NineError {
    return new NineError({ kind: 'corrupt', op: 'apply.decode', message: `${this.#what} is damaged: ${why}` })
  }

  #skip(size: number): number {
    const at = this.#at
    if (size > this.#bytes.length - at) throw this.corrupt('it is cut short')
    this.#at = at + size
    return at
  }

  #decode(at: number, size: number): string {
    try {
      return utf8.decode(this.#bytes.subarray(at, at + size))
    } catch {
      throw this.corrupt('a text is not UTF-8')
    }
  }
}
