/**
 * A TCP proxy on loopback that does to connections what networks do. What it is told holds for the connections there are and for
 * new ones, until `resume`.
 *
 * F1 Bytes that pass do so in order and unchanged.
 * F2 A stalled direction reads nothing: what was sent waits in the system's buffers and passes after `resume`.
 * F3 Bytes of a blackhole are lost, so its connections are cut by `resume`: nothing is ever missing in the middle of a stream.
 */
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'

export type Direction = 'toTarget' | 'fromTarget'

export interface FaultProxy {
  /** `HOST:PORT` to dial instead of the target. */
  readonly address: string
  /** Connections accepted since start, and those there are. */
  readonly accepted: number
  readonly open: number
  /** Bytes that passed since start. */
  readonly passed: Readonly<Record<Direction, number>>
  /** Reset every connection. `target`: only that half, so the client's stays open and hears nothing any more; `client`: the other way. */
  cut(half?: 'both' | 'client' | 'target'): void
  /** Cut the connection that carries it after so many more bytes have passed in this direction; they are delivered. Once. */
  cutAfter(bytes: number, direction: Direction): void
  /** Keep connections open, pass nothing. F2 */
  stall(direction: Direction | 'both'): void
  /** Pass what comes so much later. 0: at once again. */
  delay(ms: number, direction: Direction | 'both'): void
  /** Keep connections open, take what comes, and lose it. F3 */
  blackhole(): void
  /** Cut everything and listen no more: who dials is refused by the system. */
  refuse(): Promise<void>
  /** As at the start. */
  resume(): Promise<void>
  /** Where new connections go from now on. */
  aim(target: string): void
  /** Resolves when the next connection has been accepted. */
  nextConnection(): Promise<void>
  /** Resolves when cutAfter has cut. */
  nextCut(): Promise<void>
  close(): Promise<void>
}

interface Pair {
  readonly client: Socket
  readonly target: Socket
  isLost: boolean
}

/** @param target `HOST:PORT` */
export async function startProxy(target: string): Promise<FaultProxy> {
  const proxy = new Proxy(target)
  await proxy.listen(0)
  return proxy
}

class Proxy implements FaultProxy {
  address = ''
  accepted = 0
  readonly passed: Record<Direction, number> = { toTarget: 0, fromTarget: 0 }
  #target: string
  #port = 0
  #server: Server | undefined
  readonly #pairs = new Set<Pair>()
  readonly #stalled = { toTarget: false, fromTarget: false }
  readonly #delays = { toTarget: 0, fromTarget: 0 }
  readonly #left = { toTarget: Infinity, fromTarget: Infinity }
  readonly #timers = new Set<NodeJS.Timeout>()
  #isBlackhole = false
  #onConnection: (() => void)[] = []
  #onCut: (() => void)[] = []

  constructor(target: string) {
    this.#target = target
  }

  get open(): number {
    return this.#pairs.size
  }

  listen(port: number): Promise<void> {
    const server = createServer((client) => this.#accept(client))
    this.#server = server
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, '127.0.0.1', () => {
        this.#port = (server.address() as AddressInfo).port
        this.address = `127.0.0.1:${this.#port}`
        resolve()
      })
    })
  }

  cut(half: 'both' | 'client' | 'target' = 'both'): void {
    for (const pair of [...this.#pairs]) {
      if (half === 'both') this.#end(pair)
      else {
        pair.isLost = true
        pair[half].resetAndDestroy()
        pair[half === 'client' ? 'target' : 'client'].resume()
      }
    }
  }

  cutAfter(bytes: number, direction: Direction): void {
    this.#left[direction] = bytes
  }

  stall(direction: Direction | 'both'): void {
    for (const each of directions(direction)) this.#stalled[each] = true
    for (const pair of this.#pairs) this.#flow(pair)
  }

  delay(ms: number, direction: Direction | 'both'): void {
    for (const each of directions(direction)) this.#delays[each] = ms
  }

  blackhole(): void {
    this.#isBlackhole = true
    for (const pair of this.#pairs) pair.isLost = true
  }

  refuse(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    const closed = new Promise<void>((resolve) => (server === undefined ? resolve() : server.close(() => resolve())))
    this.cut()
    return closed
  }

  async resume(): Promise<void> {
    this.#isBlackhole = false
    for (const direction of directions('both')) {
      this.#stalled[direction] = false
      this.#delays[direction] = 0
      this.#left[direction] = Infinity
    }
    for (const pair of [...this.#pairs]) if (pair.isLost) this.#end(pair) // F3
    for (const pair of this.#pairs) this.#flow(pair)
    if (this.#server === undefined) await this.listen(this.#port)
  }

  aim(target: string): void {
    this.#target = target
  }

  nextConnection(): Promise<void> {
    return new Promise((resolve) => this.#onConnection.push(resolve))
  }

  nextCut(): Promise<void> {
    return new Promise((resolve) => this.#onCut.push(resolve))
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer)
    await this.refuse()
  }

  #accept(client: Socket): void {
    const at = this.#target.lastIndexOf(':')
    const target = connect({
      host: this.#target.slice(0, at).replace(/^\[|\]$/g, ''),
      port: Number(this.#target.slice(at + 1)),
      noDelay: true,
    })
    client.setNoDelay(true)
    const pair: Pair = { client, target, isLost: this.#isBlackhole }
    this.accepted++
    this.#pairs.add(pair)
    this.#pass(pair, client, target, 'toTarget')
    this.#pass(pair, target, client, 'fromTarget')
    this.#flow(pair)
    for (const tell of this.#onConnection.splice(0)) tell()
  }

  #pass(pair: Pair, from: Socket, to: Socket, direction: Direction): void {
    from.on('error', () => undefined)
    from.on('data', (chunk: Buffer) => {
      if (pair.isLost) return
      const bytes = Math.min(chunk.length, this.#left[direction])
      this.#left[direction] -= bytes
      if (bytes > 0) this.#later(direction, () => this.#write(pair, to, chunk.subarray(0, bytes), direction))
      if (bytes < chunk.length || this.#left[direction] === 0) this.#cutHere(pair, to, direction)
    })
    from.on('end', () => {
      if (!pair.isLost) this.#later(direction, () => to.end())
    })
    from.on('close', () => {
      if (!pair.isLost) this.#later(direction, () => to.destroySoon())
      if (pair.client.destroyed && pair.target.destroyed) this.#pairs.delete(pair)
    })
  }

  #write(pair: Pair, to: Socket, chunk: Buffer, direction: Direction): void {
    this.passed[direction] += chunk.length
    if (!to.write(chunk)) to.once('drain', () => this.#flow(pair))
    this.#flow(pair)
  }

  /** Who is read: neither a stalled direction, nor one whose receiver is behind. F2 */
  #flow(pair: Pair): void {
    const flow = (from: Socket, to: Socket, direction: Direction): void => {
      if (!pair.isLost && (this.#stalled[direction] || to.writableNeedDrain)) from.pause()
      else from.resume()
    }
    flow(pair.client, pair.target, 'toTarget')
    flow(pair.target, pair.client, 'fromTarget')
  }

  #later(direction: Direction, act: () => void): void {
    const ms = this.#delays[direction]
    if (ms === 0) return act()
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      act()
    }, ms)
    this.#timers.add(timer)
  }

  #cutHere(pair: Pair, to: Socket, direction: Direction): void {
    this.#left[direction] = Infinity
    // What passed is delivered before the end is seen.
    to.end(() => {
      this.#end(pair)
      for (const tell of this.#onCut.splice(0)) tell()
    })
    pair.isLost = true
  }

  #end(pair: Pair): void {
    this.#pairs.delete(pair)
    pair.isLost = true
    pair.client.resetAndDestroy()
    pair.target.resetAndDestroy()
  }
}

function directions(direction: Direction | 'both'): Direction[] {
  return direction === 'both' ? ['toTarget', 'fromTarget'] : [direction]
}
