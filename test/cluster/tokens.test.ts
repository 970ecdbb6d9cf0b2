/** Tokens of a cluster's principals: made, listed and ended at any node, good at all of them, and what is left of that when nodes are lost. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { isNineError } from '../../namespace/errors.ts'
import type { Session } from '../../sdk/session.ts'
import type { NodeProcess } from '../chaos/node-process.ts'
import { failure } from '../node/running.ts'
import { Processes, until } from './processes.ts'

interface Issued {
  readonly token: string
  readonly late: readonly string[]
}

let cluster: Processes

afterEach(async () => {
  const failures = cluster.nodes.flatMap((node) => node.failures)
  await cluster.close()
  expect(failures).toEqual([])
})

/** A session with this node alone. */
function at(node: NodeProcess, token?: string): Promise<Session> {
  return cluster.connect({ addresses: undefined, address: node.setup.grpc, ...(token === undefined ? {} : { token }) })
}

async function issue(session: Session, name: string, groups: string[] = []): Promise<Issued> {
  return (await session.control('token.create', { name, groups })) as Issued
}

async function names(session: Session): Promise<string[]> {
  const { principals } = (await session.control('token.list', {})) as { principals: { name: string }[] }
  return principals.map(({ name }) => name)
}

/** Of its failure; '' when it succeeds. */
async function kindOf(attempt: Promise<unknown>): Promise<string> {
  try {
    await attempt
    return ''
  } catch (error) {
    return isNineError(error) ? error.kind : String(error)
  }
}

async function drain(events: AsyncIterator<unknown>): Promise<void> {
  while ((await events.next()).done !== true) continue
}

function principalsFile(node: NodeProcess): Promise<string> {
  return readFile(join(node.dataFolder, 'identity', 'principals.json'), 'utf8')
}

describe('a token made at one node', () => {
  it('is good at every node when it is answered, listed at each, and ended at each when its end is answered', async () => {
    cluster = await Processes.start(3)
    const owners = await Promise.all(cluster.nodes.map((node) => at(node)))
    for (let round = 0; round < 6; round++) {
      const name = `ann${round}`
      const { token, late } = await issue(owners[round % 3]!, name, ['team'])
      expect(late).toEqual([])
      const sessions = await Promise.all(cluster.nodes.map((node) => at(node, token)))
      for (const session of sessions) expect(session.client.principal).toEqual({ name, groups: ['team'] })
      for (const owner of owners) expect(await names(owner)).toContain(name)
      const watches = sessions.map((session) => session.client.watch(`/usr/${name}`, { recursive: true })[Symbol.asyncIterator]())
      let begun = 0
      for (const watch of watches) void watch.next().then(() => begun++)
      await until('all watches see it', 10_000, async () => {
        await owners[0]!.client.write(`/usr/${name}/seen`, 'x')
        return begun === watches.length
      })
      const ended = watches.map((watch) => failure(drain(watch), 'unauthenticated'))
      // At another node than the one that made it.
      expect(await owners[(round + 1) % 3]!.control('token.revoke', { name })).toEqual({ late: [] })
      await Promise.all(cluster.nodes.map((node) => failure(at(node, token), 'unauthenticated')))
      await Promise.all(ended)
      for (const owner of owners) expect(await names(owner)).not.toContain(name)
    }
    await failure(owners[0]!.control('token.revoke', { name: 'ann0' }), 'not_found')
    await failure(owners[0]!.control('token.revoke', { name: '../cluster' }), 'not_found')
    await failure(owners[0]!.control('token.create', { name: 'chaos' }), 'denied')
  })

  it('is replaced at every node by a new one for the same name', async () => {
    cluster = await Processes.start(3)
    const owners = await Promise.all(cluster.nodes.map((node) => at(node)))
    const old = await issue(owners[0]!, 'dora')
    const session = await at(cluster.nodes[2]!, old.token)
    await session.client.write('/usr/dora/file', 'hers')
    const { token } = await issue(owners[1]!, 'dora')
    for (const node of cluster.nodes) await failure(at(node, old.token), 'unauthenticated')
    await failure(session.client.stat('/'), 'unauthenticated')
    for (const node of cluster.nodes) expect(await (await at(node, token)).client.readText('/usr/dora/file')).toBe('hers')
  })

  it('is kept as a hash, which only the owner can get at, and no more in files of the nodes', async () => {
    cluster = await Processes.start(3)
    const owner = await cluster.connect()
    const { token } = await issue(owner, 'eve')
    const eve = await cluster.connect({ token })
    for (const name of ['token.create', 'token.list', 'token.revoke']) await failure(eve.control(name, { name: 'eve' }), 'denied')
    for (const path of ['/sys/principals', '/sys/backup/sys', '/sys/stores/sys']) await failure(eve.client.read(path), 'denied')
    await failure(eve.namespace.mount('store:sys', '/usr/eve/sys'), 'not_found')
    expect(await owner.client.readText('/sys/principals')).not.toMatch(/[0-9a-f]{64}/)
    for (const node of cluster.nodes) {
      const text = await principalsFile(node)
      expect(text).not.toContain(token)
      expect((JSON.parse(text) as { principals: { name: string }[] }).principals.map(({ name }) => name)).toEqual(['chaos'])
    }
  })
})

describe('clients with such a token', () => {
  it('go on with another node when theirs is killed', async () => {
    cluster = await Processes.start(3)
    const owner = await cluster.connect()
    const { token } = await issue(owner, 'fay')
    const fay = await cluster.connect({ token, prefer: 'given' })
    await fay.client.write('/usr/fay/count', '0')
    const home = fay.status().nodes.find(({ isHome }) => isHome)!.node!
    await cluster.node(home).kill()
    for (let turn = 1; turn <= 20; turn++) {
      await fay.client.write('/usr/fay/count', String(turn))
      expect(await fay.client.readText('/usr/fay/count')).toBe(String(turn))
    }
    expect(fay.status().nodes.find(({ isHome }) => isHome)!.node).not.toBe(home)
    expect(fay.client.principal.name).toBe('fay')
  })
})

describe('nodes that are lost', () => {
  it('are named when they could not be told; a token that ended meanwhile is none when they are back', async () => {
    cluster = await Processes.start(3)
    const owner = await at(cluster.nodes[0]!)
    const { token } = await issue(owner, 'gus')
    await cluster.nodes[2]!.kill()
    expect(await owner.control('token.revoke', { name: 'gus' })).toEqual({ late: ['n3'] })
    const later = await issue(owner, 'hal')
    expect(later.late).toEqual(['n3'])
    await cluster.start(cluster.nodes[2]!)
    // It begins with what it knows where the others do not answer in time.
    await until('n3 has heard of it', 10_000, async () => (await kindOf(at(cluster.nodes[2]!, token))) === 'unauthenticated')
    expect((await at(cluster.nodes[2]!, later.token)).client.principal.name).toBe('hal')
  })

  it('leave one that lets in whom it knew, and makes and ends no token', async () => {
    cluster = await Processes.start(3)
    const owner = await at(cluster.nodes[0]!)
    const { token } = await issue(owner, 'ida')
    const session = await at(cluster.nodes[0]!, token)
    await session.client.write('/usr/ida/file', 'hers')
    await Promise.all([cluster.nodes[1]!.kill(), cluster.nodes[2]!.kill()])
    const alone = await at(cluster.nodes[0]!, token)
    expect(await alone.client.readText('/usr/ida/file', { consistency: 'stale' })).toBe('hers')
    // The others may know it.
    await until('it knows of no leader', 10_000, async () => (await kindOf(at(cluster.nodes[0]!, 'nobody-has-this-token'))) === 'unavailable') // prettier-ignore
    const refused = [owner.control('token.create', { name: 'jan' }), owner.control('token.revoke', { name: 'ida' })]
    for (const one of refused) expect((await one.catch((error: unknown) => error)) as Error).toMatchObject({ retryable: true })
    expect(await names(owner)).toEqual(['chaos', 'ida'])
    // A node that was down for all of it comes up where there is a majority again, and knows her too.
    await Promise.all([cluster.start(cluster.nodes[1]!), cluster.start(cluster.nodes[2]!)])
    await until('n3 has heard of her', 10_000, async () => {
      const kind = await kindOf(at(cluster.nodes[2]!, token))
      expect(['', 'unavailable']).toContain(kind)
      return kind === ''
    })
  }, 60_000)
})

describe('the folder of a node alone', () => {
  it('brings its principals along when it becomes the first of a cluster, and its file keeps them no more', async () => {
    cluster = await Processes.start(3)
    const [first, ...others] = cluster.nodes
    const peers = first!.peers
    // The same three places, and the first begins alone.
    await Promise.all(cluster.nodes.map((node) => node.kill()))
    await Promise.all(cluster.nodes.map((node) => node.wipe()))
    first!.peers = undefined
    await cluster.start(first!)
    const alone = await at(first!)
    const { token } = await issue(alone, 'kim', ['old'])
    await issue(alone, 'lou')
    await alone.control('token.revoke', { name: 'lou' })
    expect(await principalsFile(first!)).toContain('kim')
    await first!.stop()
    first!.peers = peers
    first!.start()
    for (const node of others) node.start()
    await Promise.all(cluster.nodes.map((node) => node.ready(60_000)))
    for (const node of cluster.nodes) expect((await at(node, token)).client.principal).toEqual({ name: 'kim', groups: ['old'] })
    const owner = await at(others[0]!)
    expect(await names(owner)).toEqual(['chaos', 'kim'])
    expect(await principalsFile(first!)).not.toContain('kim')
    // What has ended in the cluster does not come back with the folder.
    await owner.control('token.revoke', { name: 'kim' })
    await first!.stop()
    await cluster.start(first!)
    await until('it is at rest', 5_000, async () => (await names(await at(first!))).length === 1)
    // Until it has caught up with its cluster it says so; what has ended it lets in at no time.
    await until('it has caught up', 5_000, async () => {
      const kind = await kindOf(at(first!, token))
      expect(['unavailable', 'unauthenticated']).toContain(kind)
      return kind === 'unauthenticated'
    })
  }, 60_000)
})
