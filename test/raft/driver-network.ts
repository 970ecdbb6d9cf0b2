/** The network of simulated nodes, from chance: it loses, delays, reorders, duplicates and cuts, one-way too. */
import type { NodeId } from '../../raft/index.ts'
import type { SimNode } from './driver-node.ts'

interface Packet {
  readonly at: number
  readonly from: NodeId
  readonly to: NodeId
  readonly deliver: (node: SimNode) => void
  readonly failed: () => void
}

export interface NetworkOptions {
  /** Parts of what is sent. */
  readonly loss: number
  readonly duplication: number
  /** Rounds that it takes at most. */
  readonly delay: number
}

export class SimNetwork {
  /** Directions in which nothing passes: `from to`. */
  readonly cut = new Set<string>()
  /** It loses only `calmLoss` of what is sent, and delivers the rest in order with the next round. */
  isCalm = false
  calmLoss = 0
  readonly #options: NetworkOptions
  readonly #random: () => number
  #packets: Packet[] = []
  #now = 0

  constructor(options: NetworkOptions, random: () => number) {
    this.#options = options
    this.#random = random
  }

  /** `failed` when it does not arrive; perhaps `deliver` twice. */
  put(from: NodeId, to: NodeId, deliver: (node: SimNode) => void, failed: () => void): void {
    const { loss, duplication, delay } = this.#options
    const isLost = this.#random() < (this.isCalm ? this.calmLoss : loss)
    this.#add(from, to, isLost ? failed : deliver, failed, this.#delay())
    if (!this.isCalm && this.#random() < duplication) this.#add(from, to, deliver, () => undefined, this.#delay() + delay)
  }

  /** Something happens to a node in a while, which no message brings. */
  happen(at: NodeId, within: number, happens: (node: SimNode) => void): void {
    this.#add(at, at, happens, () => undefined, 1 + Math.floor(this.#random() * within))
  }

  /** The next round. */
  deliver(nodes: ReadonlyMap<NodeId, SimNode>): void {
    this.#now++
    const due: Packet[] = []
    const later: Packet[] = []
    for (const packet of this.#packets) (packet.at <= this.#now ? due : later).push(packet)
    this.#packets = later
    for (const packet of due) {
      const node = nodes.get(packet.to)
      if (node === undefined || node.running === null || this.cut.has(`${packet.from} ${packet.to}`)) packet.failed()
      else if (node.paused > 0) this.#packets.push({ ...packet, at: this.#now + 1 })
      else packet.deliver(node)
    }
  }

  /** Between some of `all` and the others nothing passes, perhaps in one direction only. */
  partition(all: readonly NodeId[]): void {
    const oneWay = this.#random() < 0.3
    const side = new Set(all.filter(() => this.#random() < 0.4))
    for (const from of all) {
      for (const to of all) if (side.has(from) !== side.has(to) && (!oneWay || side.has(from))) this.cut.add(`${from} ${to}`)
    }
  }

  #delay(): number {
    return 1 + (this.isCalm ? 0 : Math.floor(this.#random() * this.#options.delay))
  }

  #add(from: NodeId, to: NodeId, deliver: (node: SimNode) => void, failed: () => void, delay: number): void {
    this.#packets.push({ at: this.#now + delay, from, to, deliver, failed })
  }
}
