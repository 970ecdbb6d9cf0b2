/** What is done to the nodes and the network between them while clients go on. Healing is done by whoever runs a scenario. */
import type { ChaosCluster, LinkFault } from './cluster.ts'
import type { NodeProcess } from './node-process.ts'

export interface Chaos {
  readonly cluster: ChaosCluster
  readonly random: () => number
  /** How links fail this time. */
  readonly fault: LinkFault
  readonly pick: <T>(choices: readonly T[]) => T
  /** Let it be so for a while: `ms`, or up to half as much more. */
  readonly hold: (ms: number) => Promise<void>
  /** Until clients of these nodes were answered so often. @throws Error when they were not for long: the cluster does not go on */
  readonly progress: (nodes: readonly NodeProcess[], answers: number) => Promise<void>
  /** Who leads the store. */
  readonly leader: () => Promise<NodeProcess>
  /** Whom a client asks everything that may ask any node. */
  readonly homeOfAny: () => NodeProcess
  /** Make this node lead it, as an operator does. @throws NineError */
  readonly transfer: (node: NodeProcess) => Promise<void>
}

export interface Scenario {
  readonly name: string
  /** Left to long runs: others show nearly the same. */
  readonly isLong?: boolean
  run(chaos: Chaos): Promise<void>
}

/** Longer than an election takes at default settings. */
const past_election_ms = 3_000
/** Of the side that goes on: enough to be wrong about. */
const answers = 60

export const aloneScenarios: readonly Scenario[] = [
  { name: 'nothing at all', run: ({ hold }) => hold(1_000) },
  {
    name: 'killed, twice, and started again',
    async run({ cluster, hold }) {
      for (let round = 0; round < 2; round++) {
        await hold(700)
        await cluster.nodes[0]!.kill()
        cluster.nodes[0]!.start()
        await cluster.ready(cluster.nodes)
      }
      await hold(300)
    },
  },
  {
    name: 'killed while it starts',
    async run({ cluster, random, hold }) {
      const node = cluster.nodes[0]!
      for (let round = 0; round < 3; round++) {
        await node.kill()
        node.start()
        await hold(100 + random() * 400)
      }
      await node.kill()
    },
  },
  {
    name: 'paused and resumed',
    async run({ cluster, hold }) {
      for (let round = 0; round < 2; round++) {
        cluster.nodes[0]!.pause()
        await hold(1_500)
        cluster.nodes[0]!.resume()
        await hold(500)
      }
    },
  },
  {
    name: 'stopped and started',
    async run({ cluster, hold }) {
      await hold(500)
      await cluster.nodes[0]!.stop()
      cluster.nodes[0]!.start()
      await cluster.ready(cluster.nodes)
      await hold(500)
    },
  },
]

export const clusterScenarios: readonly Scenario[] = [
  { name: 'nothing at all', isLong: true, run: ({ hold }) => hold(1_500) },
  {
    name: 'the leader is cut off',
    async run({ cluster, fault, leader, progress }) {
      const cut = await leader()
      await cluster.partition([[cut], others(cluster, cut)], fault)
      await progress(others(cluster, cut), answers)
    },
  },
  {
    name: 'a minority is cut off',
    async run({ cluster, fault, random, progress }) {
      const nodes = shuffled(cluster.nodes, random)
      const few = Math.floor((nodes.length - 1) / 2)
      await cluster.partition([nodes.slice(0, few), nodes.slice(few)], fault)
      await progress(nodes.slice(few), answers)
    },
  },
  {
    name: 'everybody is alone',
    isLong: true,
    async run({ cluster, fault, hold }) {
      await cluster.partition(
        cluster.nodes.map((node) => [node]),
        fault,
      )
      await hold(past_election_ms)
    },
  },
  {
    name: 'nobody hears the leader',
    async run({ cluster, fault, leader, progress }) {
      const mute = await leader()
      for (const other of others(cluster, mute)) await cluster.fail(mute, other, fault)
      await progress(others(cluster, mute), answers)
    },
  },
  {
    name: 'the leader hears nobody',
    async run({ cluster, fault, leader, progress }) {
      const deaf = await leader()
      for (const other of others(cluster, deaf)) await cluster.fail(other, deaf, fault)
      await progress(others(cluster, deaf), answers)
    },
  },
  {
    name: 'the node of a client of any node hears the leader, and is not heard by it',
    async run({ cluster, fault, leader, homeOfAny, transfer, progress }) {
      const mute = homeOfAny()
      if ((await leader()) === mute) await transfer(others(cluster, mute)[0]!)
      await cluster.fail(mute, await leader(), fault)
      await progress(others(cluster, mute), answers)
    },
  },
  {
    name: 'one node is the bridge between two sides',
    async run({ cluster, fault, random, progress, hold }) {
      const [bridge, ...rest] = shuffled(cluster.nodes, random)
      const half = Math.ceil(rest.length / 2)
      await cluster.partition([[bridge!, ...rest.slice(0, half)], [bridge!, ...rest.slice(half)]], fault) // prettier-ignore
      await progress([bridge!], answers / 2)
      await hold(past_election_ms / 3)
    },
  },
  {
    name: 'one link fails, one way, and then another',
    isLong: true,
    async run({ cluster, fault, random, hold }) {
      for (let round = 0; round < 3; round++) {
        const [from, to] = shuffled(cluster.nodes, random)
        await cluster.fail(from!, to!, fault)
        await hold(past_election_ms / 3)
      }
    },
  },
  {
    name: 'connections break all the time',
    async run({ cluster, hold }) {
      for (let round = 0; round < 12; round++) {
        cluster.cutAll()
        await hold(150)
      }
    },
  },
  {
    name: 'a slow network',
    isLong: true,
    async run({ cluster, hold }) {
      cluster.delayAll(60)
      await hold(2_000)
    },
  },
  {
    name: 'the leader is paused past an election, and goes on',
    async run({ cluster, leader, progress, hold }) {
      const paused = await leader()
      paused.pause()
      await progress(others(cluster, paused), answers)
      paused.resume()
      await hold(500)
    },
  },
  {
    name: 'the leader is killed, and started again',
    async run({ cluster, leader, progress, hold }) {
      const killed = await leader()
      await killed.kill()
      await progress(others(cluster, killed), answers)
      killed.start()
      await cluster.ready([killed])
      await hold(500)
    },
  },
  {
    name: 'all are killed at once, and started again',
    async run({ cluster, hold }) {
      await Promise.all(cluster.nodes.map((node) => node.kill()))
      for (const node of cluster.nodes) node.start()
      await cluster.ready(cluster.nodes)
      await hold(500)
    },
  },
  {
    name: 'a follower loses its disk and joins again',
    async run({ cluster, leader, pick, progress, hold }) {
      const lost = pick(others(cluster, await leader()))
      await lost.kill()
      await lost.wipe()
      await progress(others(cluster, lost), answers / 2)
      lost.start()
      await cluster.ready([lost])
      await hold(500)
    },
  },
  {
    name: 'a rolling restart',
    async run({ cluster, hold }) {
      for (const node of cluster.nodes) {
        await node.stop()
        node.start()
        await cluster.ready([node])
        await hold(200)
      }
    },
  },
  {
    name: 'leadership moves from node to node',
    async run({ cluster, random, transfer, progress, hold }) {
      for (const node of shuffled(cluster.nodes, random)) {
        await transfer(node)
        await progress([node], answers / 6)
        await hold(400)
      }
    },
  },
  {
    name: 'each node in turn is paused past an election',
    async run({ cluster, random, progress, hold }) {
      for (const node of shuffled(cluster.nodes, random).slice(0, 3)) {
        node.pause()
        await progress(others(cluster, node), answers / 2)
        await hold(past_election_ms / 3)
        node.resume()
        await progress([node], answers / 6)
      }
    },
  },
  {
    name: 'each node in turn is killed, and started again at once',
    isLong: true,
    async run({ cluster, random, progress }) {
      for (const node of shuffled(cluster.nodes, random)) {
        await node.kill()
        node.start()
        await cluster.ready([node])
        await progress([node], answers / 6)
      }
    },
  },
  {
    name: 'cut off, then killed while it is',
    isLong: true,
    async run({ cluster, fault, leader, hold }) {
      const cut = await leader()
      await cluster.partition([[cut], others(cluster, cut)], fault)
      await hold(past_election_ms / 2)
      await cut.kill()
      await hold(past_election_ms / 2)
    },
  },
]

function others(cluster: ChaosCluster, node: NodeProcess): NodeProcess[] {
  return cluster.nodes.filter((one) => one !== node)
}

function shuffled<T>(list: readonly T[], random: () => number): T[] {
  const rest = [...list]
  for (let index = rest.length - 1; index > 0; index--) {
    const other = Math.floor(random() * (index + 1))
    ;[rest[index], rest[other]] = [rest[other]!, rest[index]!]
  }
  return rest
}
