/** Clients of a cluster of real nodes: who they ask, and what they go through when nodes come and go. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openSession } from '../../cli/connection.ts'
import { limits } from '../../namespace/limits.ts'
import { connect } from '../../sdk/connect.ts'
import type { Session } from '../../sdk/session.ts'
import { failure } from '../node/running.ts'
import { leaderOf, Processes, until } from './processes.ts'

let cluster: Processes

beforeAll(async () => {
  cluster = await Processes.start(3)
})

afterAll(() => cluster?.close())

/** Make `name` lead /data. */
async function lead(session: Session, name: string): Promise<void> {
  await session.client.write('/raft/data/ctl', `transfer ${name}`)
}

function requestsAt(session: Session, name: string): number {
  return session.status().nodes.find(({ node }) => node === name)?.requests ?? 0
}

describe('who leads', () => {
  it('is asked for changes and reads, and followed without a failed request', async () => {
    const session = await cluster.connect()
    await session.client.write('/data/follow', '0', { parents: true })
    for (const name of ['n1', 'n2', 'n3', 'n1']) {
      let isOver = false
      let count = 0
      const writing = (async () => {
        while (!isOver) await session.client.write('/data/follow', String(++count))
      })()
      await lead(session, name)
      await until(`the session follows ${name}`, 10_000, () => leaderOf(session) === name)
      const before = requestsAt(session, name)
      const home = session.status().nodes.find(({ isHome }) => isHome)!.node!
      const atHome = requestsAt(session, home)
      for (let turn = 0; turn < 20; turn++) {
        await session.client.write('/data/followed', String(turn))
        expect(await session.client.readText('/data/followed')).toBe(String(turn))
      }
      expect(requestsAt(session, name) - before).toBeGreaterThanOrEqual(40)
      if (home !== name) expect(requestsAt(session, home) - atHome).toBeLessThan(40)
      isOver = true
      await writing
      expect(count).toBeGreaterThan(0)
    }
  })

  it('is found from one address and told addresses alone', async () => {
    const others = cluster.nodes.slice(0, 2).map(({ setup }) => setup.grpc)
    const session = await cluster.connect({ addresses: others })
    await lead(session, 'n3')
    await until('the session follows n3', 10_000, () => leaderOf(session) === 'n3')
    await session.client.write('/data/told', 'x')
    expect(requestsAt(session, 'n3')).toBeGreaterThan(0)
  })

  it('is not followed with route any', async () => {
    const session = await cluster.connect({ route: 'any', prefer: 'given' })
    await lead(session, 'n2')
    for (let turn = 0; turn < 10; turn++) await session.client.write('/data/any', String(turn))
    const { nodes } = session.status()
    expect(nodes.map(({ state }) => state)).toEqual(['open', 'closed', 'closed'])
    expect(nodes[0]).toMatchObject({ node: 'n1', isHome: true })
  })

  it('says what a node is used for', async () => {
    const session = await cluster.connect()
    await until('it knows the leader', 10_000, () => leaderOf(session) !== undefined)
    const { cluster: id, nodes } = session.status()
    expect(id).not.toBe('')
    expect(nodes.map(({ node, state }) => [node, state])).toEqual([
      ['n1', 'open'],
      ['n2', 'open'],
      ['n3', 'open'],
    ])
    expect(nodes.filter(({ isHome }) => isHome).length).toBe(1)
  })
})

describe('what belongs to the session', () => {
  it('is done at its home alone: its binds, and what it mounts inside a shared store', async () => {
    const session = await cluster.connect()
    await session.client.write('/data/real/file', 'real', { parents: true })
    await session.client.write('/data/other/file', 'other', { parents: true })
    await session.namespace.bind('/data/other', '/data/real')
    expect(await session.client.readText('/data/real/file')).toBe('other')
    await session.client.write('/data/real/file', 'through the bind')
    expect(await session.client.readText('/data/other/file', { consistency: 'stale', minPosition: undefined })).toBe('through the bind')
    await session.namespace.unmount('/data/real')
    expect(await session.client.readText('/data/real/file')).toBe('real')
    expect(await session.client.readText('/sys/name')).toBe(`${session.status().nodes.find(({ isHome }) => isHome)!.node!}\n`)
  })
})

describe('stale reads', () => {
  it('are spread over all nodes, and with minPosition never show less than was written', async () => {
    const session = await cluster.connect()
    await session.client.write('/data/spread', '0')
    const began = session.status().nodes.map(({ requests }) => requests)
    // A node that is connected has not told yet whether it serves them.
    await until('all serve them', 10_000, async () => {
      await session.client.exists('/data/spread', { consistency: 'stale' })
      return session.status().nodes.every(({ requests }, index) => requests > began[index]!)
    })
    const before = session.status().nodes.map(({ requests }) => requests)
    for (let turn = 1; turn <= 60; turn++) {
      const { position } = await session.client.write('/data/spread', String(turn))
      const text = await session.client.readText('/data/spread', { consistency: 'stale', minPosition: position })
      expect(text).toBe(String(turn))
    }
    // One that knows no leader for a moment is left out meanwhile.
    const after = session.status().nodes.map(({ requests }, index) => requests - before[index]!)
    expect(Math.min(...after)).toBeGreaterThanOrEqual(5)
  })

  it('never show less with minPosition, whichever node leads and answers', async () => {
    const sessions = await Promise.all([cluster.connect(), cluster.connect({ route: 'any' }), cluster.connect({ prefer: 'given' })])
    await sessions[0].client.write('/data/least', '', { parents: true })
    let isOver = false
    const moving = (async () => {
      for (let turn = 1; !isOver; turn++) await lead(sessions[0], `n${1 + (turn % 3)}`)
    })()
    const text = '0123456789'
    const less: string[] = []
    await Promise.all(
      sessions.map(async (session, index) => {
        const path = `/data/least-${index}`
        let written = ''
        for (let turn = 0; turn < 60; turn++) {
          written += text[turn % 10]!
          const { position } = await session.client.append(path, text[turn % 10]!)
          for (const other of sessions) {
            const read = await other.client.readText(path, { consistency: 'stale', minPosition: position })
            if (read !== written) less.push(`${read} instead of ${written}`)
          }
        }
      }),
    )
    isOver = true
    await moving
    expect(less).toEqual([])
  }, 120_000)

  it('never go back where that is asked for', async () => {
    const session = await cluster.connect({ monotonic: true })
    const other = await cluster.connect()
    let isOver = false
    await other.client.write('/data/grows', '0')
    const writing = (async () => {
      for (let turn = 1; !isOver; turn++) await other.client.write('/data/grows', String(turn))
    })()
    // A node that is behind does not have it yet; this one has been shown it.
    let last = Number(await session.client.readText('/data/grows'))
    for (let turn = 0; turn < 300; turn++) {
      const seen = Number(await session.client.readText('/data/grows', { consistency: 'stale' }))
      expect(seen).toBeGreaterThanOrEqual(last)
      last = seen
    }
    isOver = true
    await writing
    await session.client.write('/data/grows', 'mine')
    for (let turn = 0; turn < 9; turn++) expect(await session.client.readText('/data/grows', { consistency: 'stale' })).toBe('mine')
    await session.client.write('/usr/chaos/mine', 'x')
    expect(await session.client.readText('/usr/chaos/mine', { consistency: 'stale' })).toBe('x')
  })
})

describe('addresses', () => {
  it('are refused when there are none, when one is given twice, is none, or there are too many', async () => {
    const { token, addresses } = cluster
    expect((await failure(connect({ addresses: [], token }), 'invalid')).message).toContain('no address')
    expect((await failure(connect({ addresses: [addresses[0]!, addresses[0]!], token }), 'invalid')).message).toContain('twice')
    await failure(connect({ address: `${addresses[0]!},`, token }), 'invalid')
    const many = Array.from({ length: limits.cluster_nodes_max + 1 }, (_, index) => `127.0.0.1:${index + 1}`)
    await failure(connect({ addresses: many, token }), 'invalid')
  })

  it('of two clusters are refused, and both are named', async () => {
    const alone = await Processes.start(1, cluster.token)
    try {
      for (const addresses of [
        [...cluster.addresses, ...alone.addresses],
        [...alone.addresses, cluster.addresses[0]!],
      ]) {
        const error = await failure(connect({ addresses, token: cluster.token }), 'invalid')
        expect(error.message).toContain(alone.addresses[0]!)
        expect(error.message).toMatch(/is of cluster \w+, .* of cluster \w+/)
      }
      // Where nothing is checked beforehand, the other is never used.
      const session = await cluster.connect({ addresses: [cluster.addresses[0]!, alone.addresses[0]!], route: 'any', prefer: 'given' })
      await session.client.write('/data/mine', 'x')
      await session.client.exists('/data/mine', { consistency: 'stale' })
      await until('the other was refused', 10_000, () => session.status().nodes[1]!.lastError?.includes('of cluster') === true)
      for (let turn = 0; turn < 9; turn++) await session.client.exists('/data/mine', { consistency: 'stale' })
      expect(session.status().nodes[1]).toMatchObject({ state: 'closed', requests: 0 })
    } finally {
      await alone.close()
    }
  })

  it('of a node that knows another token are passed over, and said to be', async () => {
    const alone = await Processes.start(1)
    try {
      const addresses = [alone.addresses[0]!, ...cluster.addresses]
      const session = await cluster.connect({ addresses, prefer: 'given' })
      await session.client.write('/data/passed', 'x')
      expect(session.status().nodes[0]).toMatchObject({ state: 'closed', requests: 0 })
      expect(session.status().nodes[0]!.lastError).toMatch(/token/)
      await failure(connect({ addresses: cluster.addresses, token: 'nobody' }), 'unauthenticated')
    } finally {
      await alone.close()
    }
  })

  it('with commas between are a list, and dead ones are passed over at once', async () => {
    const session = await cluster.connect({ addresses: undefined, address: `127.0.0.1:1, ${cluster.addresses.join(',')}`, prefer: 'given' })
    expect(session.status().nodes[1]).toMatchObject({ isHome: true })
    await session.client.write('/data/list', 'x')
    const nine = await openSession({ addr: `127.0.0.1:1,${cluster.addresses.join(',')}`, tokenFile: cluster.nodes[0]!.setup.tokenFile })
    expect(await nine.client.readText('/data/list')).toBe('x')
    expect(nine.status().nodes.map(({ state }) => state)).toEqual(['closed', 'open', 'closed', 'closed'])
    await nine.close()
  })
})
