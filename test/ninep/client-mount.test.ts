/** `nine mount 9p://…`: trees of 9P servers in a node's namespace, from a saved namespace too. */
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { networkInterfaces } from 'node:os'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Session } from '../../sdk/session.ts'
import { failure, TestNode } from '../node/running.ts'
import { owner, startEdge } from './edge.ts'
import type { TestEdge } from './edge.ts'

let node: TestNode
let session: Session
let edge: TestEdge

beforeAll(async () => {
  node = await TestNode.start()
  session = await node.connect()
  edge = await startEdge({
    listeners: [{ address: { host: '127.0.0.1', port: 0 }, trusted: owner }, { address: { host: '127.0.0.1', port: 0 } }],
  })
})

afterAll(async () => {
  await node.close()
  await edge.close()
})

describe('9p:// sources', () => {
  it('are trees of any 9P server', async () => {
    await session.namespace.mount(`9p://${edge.address}/data`, '/n/other')
    await session.client.write('/n/other/f', 'over 9P')
    expect(await edge.text('/f')).toBe('over 9P')
    expect((await session.client.listAll('/n/other')).entries.map((entry) => entry.name)).toEqual(['f'])
    await session.client.copy('/n/other/f', '/data/f')
    expect(await session.client.readText('/data/f')).toBe('over 9P')
    await failure(session.client.rename('/n/other/f', '/data/g'), 'cross_store')
  })

  it('are given the token of the principal, where there is one', async () => {
    const [, guarded] = edge.edge.addresses
    await failure(session.namespace.mount(`9p://${guarded}/data`, '/n/guarded'), 'unauthenticated')
    await session.client.write(`/usr/owner/tokens/${guarded}`, 'owners-token\n', { parents: true })
    await session.namespace.mount(`9p://${guarded}/data`, '/n/guarded')
    await session.client.write('/n/guarded/g', 'let in')
    expect(await edge.text('/g')).toBe('let in')
  })

  it('of this machine are for the owner of the node alone', async () => {
    const ann = await node.connectAs('ann')
    for (const host of ['127.0.0.1', 'localhost', '[::ffff:127.0.0.1]']) {
      const source = `9p://${host}:${edge.address.split(':')[1]}/data`
      await failure(ann.namespace.mount(source, '/x'), 'denied')
    }
  })

  const addresses = Object.values(networkInterfaces()).flatMap((each = []) => each)
  const own = addresses.find(({ family, internal }) => family === 'IPv4' && !internal)?.address
  it.skipIf(own === undefined)('of this machine are so by its address in the network too', async () => {
    const listening = createServer((socket) => socket.destroy())
    await new Promise<void>((resolve) => listening.listen(0, own, resolve))
    const { port } = listening.address() as AddressInfo
    const ann = await node.connectAs('ben')
    await failure(ann.namespace.mount(`9p://${own}:${port}/data`, '/x'), 'denied')
    await new Promise((resolve) => listening.close(resolve))
  })

  it('that are none are refused', async () => {
    for (const source of ['9p://', '9p:///data', '9p://host:0/x', '9p://a b/x', '9p://x@y@z/']) {
      await failure(session.namespace.mount(source, '/x'), 'invalid')
    }
    await failure(session.namespace.mount('9p://127.0.0.1:1/data', '/x'), 'unavailable')
    await failure(session.namespace.mount(`9p://${edge.address}/data/none`, '/x'), 'not_found')
  })

  it('of a saved namespace load while the server is away, and work when it is there', async () => {
    await session.namespace.save('mount 9p://127.0.0.1:1/data /n/away')
    await session.namespace.save(`mount 9p://${edge.address}/data /n/there`)
    const later = await node.connect()
    await later.client.write('/n/there/saved', 'later')
    expect(await edge.text('/saved')).toBe('later')
    await failure(later.client.readText('/n/away/f'), 'unavailable')
    expect((await later.namespace.entries()).map((row) => row.text)).toContain('mount 9p://127.0.0.1:1/data /n/away')
  })
})
