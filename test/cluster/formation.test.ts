/**
 * Founding and joining as a function of folders and answers: each shape by hand, then whole clusters of nodes that start, crash, lose
 * their disks and hear each other or not, in any order.
 * A failing run prints its seed; run it again with SEED=n.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nextOf } from '../../services/cluster/formation.ts'
import type { FolderState, Heard, Next, Own, Who } from '../../services/cluster/formation.ts'
import { parsePeers } from '../../services/cluster/peer-list.ts'

const seed = Number(process.env['SEED'] ?? Date.now() % 1e9)
const peers = parsePeers('n1=127.0.0.1:7101,n2=127.0.0.1:7102,n3=127.0.0.1:7103')
const empty: FolderState = { kind: 'empty' }
const data: FolderState = { kind: 'data' }

function member(cluster: string, name: string, stage: 'founding' | 'joining' | 'member' = 'member'): FolderState {
  return { kind: 'member', cluster, member: `${name}.1`, stage }
}

function own(name: string, folder: FolderState, changes: Partial<Own> = {}): Own {
  return { name, owner: 'ann', peers, folder, ...changes }
}

function who(name: string, folder: FolderState, changes: Partial<Who> = {}): [string, Heard] {
  const isServing = folder.kind === 'member' && folder.stage === 'member'
  return [name, { kind: 'who', who: { name, owner: 'ann', peers, folder, isServing, isRemoved: false, ...changes } }]
}

function silent(name: string): [string, Heard] {
  return [name, { kind: 'silent', why: 'connection refused' }]
}

function stranger(name: string): [string, Heard] {
  return [name, { kind: 'stranger', error: 'unauthenticated', why: 'another secret' }]
}

function next(self: Own, ...heard: [string, Heard][]): Next {
  return nextOf(self, new Map(heard))
}

function refusal(found: Next): string {
  expect(found.do).toBe('refuse')
  return found.do === 'refuse' ? `${found.message} [${found.kind}]` : ''
}

describe('a node that starts with --peers', () => {
  it('founds when it is the first of nodes that are all empty, and every peer was heard', () => {
    expect(next(own('n1', empty), who('n2', empty), who('n3', empty))).toEqual({ do: 'found' })
    expect(next(own('n2', empty), who('n1', empty), who('n3', empty))).toMatchObject({ do: 'wait', for: [{ name: 'n1' }] })
    expect(next(own('n3', empty), who('n1', empty), who('n2', empty))).toMatchObject({ do: 'wait', for: [{ name: 'n1' }] })
  })

  it('does not found while a peer is silent, and says which and why', () => {
    const waiting = { do: 'wait', for: [{ name: 'n3', address: '127.0.0.1:7103', why: 'connection refused' }] }
    expect(next(own('n1', empty), who('n2', empty), silent('n3'))).toEqual(waiting)
    expect(next(own('n1', empty), who('n2', empty))).toMatchObject({ do: 'wait', for: [{ name: 'n3', why: 'not asked yet' }] })
  })

  it('is refused when most of the nodes do not take it, and else waits for those that do not', () => {
    expect(refusal(next(own('n3', empty), stranger('n1'), stranger('n2')))).toMatch(/n1 \(.*\): another secret; n2 \(.*unauthenticated/)
    const waits = { do: 'wait', for: [{ name: 'n3', why: 'another secret' }] }
    expect(next(own('n1', empty), who('n2', empty), stranger('n3'))).toMatchObject(waits)
    const two = parsePeers('n1=127.0.0.1:7101,n3=127.0.0.1:7103')
    expect(next(own('n1', empty, { peers: two }), stranger('n3'))).toMatchObject(waits)
    expect(next(own('n3', member('c', 'n3')), stranger('n1'), stranger('n2'))).toEqual({ do: 'open' })
    expect(next(own('n3', empty), stranger('n1'), who('n2', member('c', 'n2')))).toMatchObject({ do: 'join' })
  })

  it('founds alone when it is the only peer', () => {
    expect(next(own('n1', empty, { peers: peers.slice(0, 1) }))).toEqual({ do: 'found' })
  })

  it('with the only data founds, wherever it stands in the list', () => {
    expect(next(own('n3', data), who('n1', empty), who('n2', empty))).toEqual({ do: 'found' })
    expect(next(own('n1', empty), who('n2', empty), who('n3', data))).toMatchObject({ do: 'wait', for: [{ name: 'n3' }] })
  })

  it('is refused beside another with data, with what to do', () => {
    const message = refusal(next(own('n1', data), who('n2', data), silent('n3')))
    expect(message).toMatch(/n1 and n2 have data of their own.*empty folder.*nine import/)
    expect(refusal(next(own('n3', empty), who('n1', data), who('n2', data)))).toMatch(/n1 and n2/)
  })

  it('joins a cluster that it hears of, without hearing everybody', () => {
    const joining = { do: 'join', cluster: 'c1', through: peers[1] }
    expect(next(own('n1', empty), who('n2', member('c1', 'n2')), silent('n3'))).toEqual(joining)
  })

  it('whose disk was lost joins, though it is the first of the list', () => {
    expect(next(own('n1', empty), who('n2', member('c1', 'n2')), who('n3', member('c1', 'n3')))).toMatchObject({
      do: 'join',
      cluster: 'c1',
    })
    expect(next(own('n1', empty), who('n2', member('c1', 'n2'), { isServing: false }), who('n3', empty))).toMatchObject({ do: 'wait' })
  })

  it('waits beside a cluster that is being founded, and founds none', () => {
    const found = next(own('n1', empty), who('n2', empty), who('n3', member('c1', 'n3', 'founding')))
    expect(found).toMatchObject({ do: 'wait', for: [{ name: 'n3', why: 'cluster c1 has no leader yet' }] })
  })

  it('with data is refused beside a cluster', () => {
    expect(refusal(next(own('n1', data), who('n2', member('c1', 'n2')), silent('n3')))).toMatch(/data of its own.*n2 belongs to cluster c1/)
  })

  it('is refused between two clusters, and names both', () => {
    const message = refusal(next(own('n1', empty), who('n2', member('c1', 'n2')), who('n3', member('c2', 'n3'))))
    expect(message).toMatch(/n2 belongs to cluster c1 and n3 to cluster c2/)
  })

  it('is refused when lists of peers differ, and names the difference', () => {
    const others = (text: string) => who('n2', empty, { peers: parsePeers(text) })
    const list = 'n1=127.0.0.1:7101,n2=127.0.0.1:7102'
    const difference = (text: string): string => refusal(next(own('n1', empty), others(text), silent('n3')))
    expect(difference(`${list}`)).toMatch(/--peers of n2 differs.*n3=127.0.0.1:7103 is not in it/)
    expect(difference(`${list},n3=127.0.0.1:9`)).toMatch(/n3 is at 127.0.0.1:9 there, at 127.0.0.1:7103 here/)
    expect(difference(`${list},n3=127.0.0.1:7103,n4=127.0.0.1:8`)).toMatch(/n4=127.0.0.1:8 is in it, and not here/)
    expect(difference('n2=127.0.0.1:7102,n1=127.0.0.1:7101,n3=127.0.0.1:7103')).toMatch(/its order is n2, n1, n3/)
  })

  it('joins a cluster whose members were given another list', () => {
    const grown = [...peers, { name: 'n4', address: '127.0.0.1:7104' }]
    expect(next(own('n4', empty, { peers: grown }), who('n2', member('c1', 'n2')))).toMatchObject({ do: 'join', cluster: 'c1' })
  })

  it('is refused when owners differ, naming both, and when a peer has another name', () => {
    expect(refusal(next(own('n1', empty), who('n2', empty, { owner: 'bob' })))).toMatch(/n2 belongs to bob, n1 to ann/)
    expect(refusal(next(own('n1', empty), who('n2', empty, { name: 'n3' })))).toMatch(/127.0.0.1:7102 is n3.*calls it n2/)
  })

  it('that is a member opens its folder, whoever is up', () => {
    expect(next(own('n1', member('c1', 'n1')), silent('n2'), silent('n3'))).toEqual({ do: 'open' })
    expect(next(own('n1', member('c1', 'n1')), who('n2', empty), who('n3', data))).toEqual({ do: 'open' })
    expect(next(own('n1', member('c1', 'n1', 'founding')), silent('n2'), silent('n3'))).toEqual({ do: 'open' })
    // One that is of another cluster is told so itself; here it is a peer among others.
    expect(next(own('n1', member('c1', 'n1')), who('n2', member('c1', 'n2')), who('n3', member('c2', 'n3')))).toEqual({ do: 'open' })
  })

  it('that is a member of another cluster than its peers is refused, naming both', () => {
    const message = refusal(next(own('n1', member('c2', 'n1')), who('n2', member('c1', 'n2')), silent('n3')))
    expect(message).toMatch(/this folder belongs to cluster c2, but n2 .* belongs to cluster c1/)
  })

  it('that was removed is refused and told by whom', () => {
    const message = refusal(next(own('n1', member('c1', 'n1')), who('n2', member('c1', 'n2'), { isRemoved: true }), silent('n3')))
    expect(message).toMatch(/n1\.1 was removed from cluster c1, says n2.*nine raft add.*denied/)
  })

  it('that was replaced is told by which member, and not to be let in anew', () => {
    const successor = { isRemoved: true, successor: 'n1.2' }
    const message = refusal(next(own('n1', member('c1', 'n1')), who('n2', member('c1', 'n2'), successor), silent('n3')))
    expect(message).toMatch(/n1\.1 was replaced by n1\.2 in cluster c1, says n2: start n1 with the folder of n1\.2 .*empty one.*denied/)
    expect(message).not.toMatch(/raft add/)
  })

  it('that began to join goes on, with that cluster only', () => {
    const joining = own('n1', member('c1', 'n1', 'joining'))
    expect(next(joining, who('n2', member('c1', 'n2')), silent('n3'))).toMatchObject({ do: 'join', cluster: 'c1' })
    expect(next(joining, who('n2', empty), who('n3', empty))).toMatchObject({ do: 'wait' })
    expect(refusal(next(joining, who('n2', member('c2', 'n2')), silent('n3')))).toMatch(/c1.*c2/)
  })
})

/** One node of the model: its disk, and whether it runs. */
interface Node {
  folder: FolderState
  isUp: boolean
  hasRefused: boolean
}

type Step =
  | { readonly do: 'turn' | 'crash' | 'start' | 'lose'; readonly node: number }
  | { readonly do: 'cut' | 'mend'; readonly node: number; readonly from: number }

const names = peers.map(({ name }) => name)

class Cluster {
  readonly nodes: Node[]
  /** Ordered pairs that do not hear each other: `from` asks `to` in vain. */
  readonly cuts = new Set<string>()
  founded: string[] = []
  lives = 0

  constructor(withData: readonly boolean[]) {
    this.nodes = withData.map((has) => ({ folder: has ? data : empty, isUp: true, hasRefused: false }))
  }

  step(step: Step): void {
    const node = this.nodes[step.node]!
    if (step.do === 'cut' && step.from !== step.node) this.cuts.add(`${step.from}${step.node}`)
    else if (step.do === 'mend') this.cuts.delete(`${step.from}${step.node}`)
    else if (step.do === 'crash') node.isUp = false
    else if (step.do === 'start') node.isUp = !node.hasRefused
    else if (step.do === 'lose') this.#lose(node)
    else if (step.do === 'turn' && node.isUp) this.#turn(step.node)
  }

  /** A disk is lost only while another holds all of the cluster; else there would be nothing to join. */
  #lose(node: Node): void {
    const others = this.nodes.filter((other) => other !== node)
    const isKept = others.some(({ folder }) => folder.kind === 'member' && folder.stage === 'member')
    if (node.folder.kind === 'empty' || (node.folder.kind === 'member' && isKept)) node.folder = empty
  }

  /** One write to the disk of the node at most: a crash between any two writes is a `crash` between two turns. */
  #turn(number: number): void {
    const node = this.nodes[number]!
    const { folder } = node
    const name = names[number]!
    if (folder.kind === 'member' && folder.stage === 'founding') {
      node.folder = { ...folder, stage: 'member' }
      return
    }
    const found = nextOf(own(name, folder), this.#hear(number))
    if (found.do === 'refuse') {
      node.isUp = false
      node.hasRefused = true
    } else if (found.do === 'found') {
      const cluster = `c${this.founded.length}`
      this.founded.push(cluster)
      node.folder = { kind: 'member', cluster, member: `${name}.${++this.lives}`, stage: 'founding' }
    } else if (found.do === 'join') {
      if (folder.kind === 'member') node.folder = { ...folder, stage: 'member' }
      else node.folder = { kind: 'member', cluster: found.cluster, member: `${name}.${++this.lives}`, stage: 'joining' }
    }
  }

  #hear(number: number): Map<string, Heard> {
    const heard = new Map<string, Heard>()
    for (const [other, { folder, isUp }] of this.nodes.entries()) {
      if (other === number) continue
      const isHeard = isUp && !this.cuts.has(`${number}${other}`)
      heard.set(...(isHeard ? who(names[other]!, folder) : silent(names[other]!)))
    }
    return heard
  }
}

const nodeNumber = fc.nat(2)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('turn' as const), node: nodeNumber }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('crash' as const, 'start' as const), node: nodeNumber }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('lose' as const), node: nodeNumber }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('cut' as const, 'mend' as const), node: nodeNumber, from: nodeNumber }) },
)

describe(`whole clusters (SEED=${seed})`, () => {
  it('form once, whatever crashes and is not heard, and are complete when all are up', () => {
    const shapes = fc.array(fc.boolean(), { minLength: 3, maxLength: 3 })
    const check = fc.property(shapes, fc.array(step, { maxLength: 60 }), (withData, steps) => {
      const cluster = new Cluster(withData)
      for (const one of steps) {
        cluster.step(one)
        expect(cluster.founded.length).toBeLessThanOrEqual(1)
      }
      const isRefused = withData.filter(Boolean).length > 1
      cluster.cuts.clear()
      for (const [node] of cluster.nodes.entries()) cluster.step({ do: 'start', node })
      for (let round = 0; round < 5; round++) for (const [node] of cluster.nodes.entries()) cluster.step({ do: 'turn', node })
      expect(cluster.founded.length).toBe(isRefused ? 0 : 1)
      for (const node of cluster.nodes) {
        if (isRefused) expect(node.folder.kind).not.toBe('member')
        else expect(node.folder).toMatchObject({ kind: 'member', cluster: 'c0', stage: 'member' })
      }
    })
    fc.assert(check, { seed, numRuns: 2_000 })
  })
})
