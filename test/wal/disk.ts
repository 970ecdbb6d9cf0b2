/**
 * A disk in memory behind the port WalFiles: it keeps apart what is durable and what is only in the page cache, loses
 * any sectors of the difference in a crash, holds writes until told, and fails on demand.
 */
import type { OpenMode, WalFile, WalFiles } from '../../storage/wal/files.ts'

interface Content {
  cached: Buffer
  durable: Buffer
}

export type Op = 'open' | 'write' | 'sync' | 'writeDurable' | 'rename' | 'unlink' | 'syncDir'

export interface Fault {
  readonly op: Op
  readonly code: string
  /** Sectors of the failing write that reach the disk all the same. */
  readonly sectors?: number
}

const sector = 512

export class SimDisk implements WalFiles {
  names = new Map<string, Content>()
  /** Names as a crash may leave them. */
  #durableNames = new Map<string, Content>()
  readonly faults: Fault[] = []
  /** Bytes of files there is room for. */
  room = Infinity
  /** Durable writes wait for `release` while true. */
  hold = false
  readonly held: (() => void)[] = []
  durableWrites = 0
  #life = 0

  makeDir(): void {}

  list(dir: string): string[] {
    return [...this.names.keys()].filter((path) => path.startsWith(`${dir}/`)).map((path) => path.slice(dir.length + 1))
  }

  open(path: string, mode: OpenMode): WalFile {
    this.#fail('open')
    let content = this.names.get(path)
    if (mode === 'create') {
      content = { cached: Buffer.alloc(0), durable: Buffer.alloc(0) }
      this.names.set(path, content)
    }
    if (content === undefined) throw Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' })
    return this.#file(content)
  }

  async rename(from: string, to: string): Promise<void> {
    this.#fail('rename')
    this.names.set(to, this.names.get(from)!)
    this.names.delete(from)
  }

  async unlink(path: string): Promise<void> {
    this.#fail('unlink')
    if (!this.names.delete(path)) throw Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' })
  }

  async syncDir(): Promise<void> {
    this.#fail('syncDir')
    this.#durableNames = new Map(this.names)
  }

  /** Lets the oldest held write finish. */
  release(): boolean {
    const next = this.held.shift()
    next?.()
    return next !== undefined
  }

  /**
   * Everything not durable is lost or kept, sector by sector, as `pick` says; files that were open are dead.
   * `pick` is asked once for the names: true keeps the newest.
   */
  crash(pick: () => boolean): void {
    this.#life += 1
    this.held.length = 0
    this.faults.length = 0
    if (!pick()) this.names = new Map(this.#durableNames)
    for (const content of new Set(this.names.values())) {
      const { cached, durable } = content
      const next = Buffer.alloc(pick() ? cached.length : durable.length)
      for (let at = 0; at < next.length; at += sector) {
        const [newer, older] = [cached.subarray(at, at + sector), durable.subarray(at, at + sector)]
        const kept = newer.equals(older) || pick() ? newer : older
        next.set(kept.subarray(0, next.length - at), at)
      }
      content.cached = next
      content.durable = Buffer.from(next)
    }
    this.#durableNames = new Map(this.names)
  }

  #fail(op: Op): void {
    const fault = this.#fault(op)
    if (fault !== undefined) throw failure(fault)
  }

  #fault(op: Op): Fault | undefined {
    const at = this.faults.findIndex((fault) => fault.op === op)
    return at < 0 ? undefined : this.faults.splice(at, 1)[0]
  }

  #used(): number {
    let used = 0
    for (const content of new Set(this.names.values())) used += content.cached.length
    return used
  }

  #file(content: Content): WalFile {
    const life = this.#life
    const alive = (): void => {
      if (life !== this.#life) throw new Error('the process that had this file open is gone')
    }
    const put = (bytes: Uint8Array, position: number): void => {
      const end = position + bytes.length
      if (end > content.cached.length) {
        if (this.#used() + end - content.cached.length > this.room) throw failure({ op: 'write', code: 'ENOSPC' })
        content.cached = Buffer.concat([content.cached], end)
      }
      content.cached.set(bytes, position)
    }
    const harden = (from: number, to: number): void => {
      if (content.durable.length < content.cached.length) content.durable = Buffer.concat([content.durable], content.cached.length)
      content.cached.copy(content.durable, from, from, to)
    }
    return {
      get size() {
        return content.cached.length
      },
      read: (into, position) => content.cached.copy(into, 0, position, position + into.length),
      write: async (bytes, position) => {
        alive()
        this.#fail('write')
        put(bytes, position)
      },
      sync: async () => {
        alive()
        this.#fail('sync')
        harden(0, content.cached.length)
      },
      writeDurable: (bytes, position, done) => {
        if (life !== this.#life) return
        this.durableWrites += 1
        const fault = this.#fault('writeDurable')
        if (fault !== undefined) put(bytes.subarray(0, Math.max(0, (fault.sectors ?? 0) * sector - (position % sector))), position)
        else put(bytes, position)
        const finish = (): void => {
          if (life !== this.#life) return
          if (fault !== undefined) return done(failure(fault))
          harden(position, position + bytes.length)
          done(null)
        }
        if (this.hold) this.held.push(finish)
        else setImmediate(finish)
      },
      writeDurableSync: (bytes, position) => {
        alive()
        this.durableWrites += 1
        this.#fail('writeDurable')
        put(bytes, position)
        harden(position, position + bytes.length)
      },
      close: () => undefined,
    }
  }
}

function failure({ op, code }: Fault): Error {
  return Object.assign(new Error(`${code}: ${op}`), { code })
}
