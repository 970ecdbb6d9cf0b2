/** Clients such as 9fans.net/go use a fid's number again as soon as they have asked for its clunk or remove. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parsePath } from '../../namespace/path.ts'
import type { Dialect } from '../../proto/ninep/messages.ts'
import { startEdge } from './edge.ts'
import type { TestEdge } from './edge.ts'
import { RawClient } from './raw-client.ts'

let edge: TestEdge

beforeEach(async () => {
  edge = await startEdge()
})

afterEach(() => edge.close())

describe.each<Dialect>(['9P2000', '9P2000.L'])('%s', (dialect) => {
  it.each(['Tclunk', 'Tremove'] as const)('gives the number of a fid to another while its %s is under way', async (type) => {
    const client = await RawClient.open(edge.address, dialect)
    await client.attach(0, '/data')
    for (const path of ['a', 'b']) await edge.namespace.create(edge.context(), parsePath(`/data/${path}`))
    await client.walk(0, 1, 'a')
    client.socket.cork()
    const [ended, walked, gone] = [
      client.send({ type, fid: 1 }).answer,
      client.send({ type: 'Twalk', fid: 0, newFid: 1, names: ['b'] }).answer,
      client.send({ type: 'Twalk', fid: 1, newFid: 1, names: ['..'] }).answer,
    ]
    client.socket.uncork()
    expect(await ended).toMatchObject({ type: `R${type.slice(1)}` })
    expect(await walked).toMatchObject({ type: 'Rwalk' })
    expect(await gone).not.toMatchObject({ type: 'Rwalk' })
    // The number is the new file's, and stays it.
    await client.clunk(1)
    await client.walk(0, 1, 'b')
    await client.close()
  })
})
