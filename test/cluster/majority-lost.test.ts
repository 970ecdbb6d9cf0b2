/** What is left of a cluster whose majority is gone: it changes nothing, and says so. */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { TestCluster } from './nodes.ts'

let cluster: TestCluster

beforeAll(async () => {
  cluster = await TestCluster.make(['n1', 'n2', 'n3'])
  await cluster.up('n1', 'n2', 'n3')
  await cluster.ok('n3', 'write', '/data/kept', 'kept')
  await cluster.ok('n3', 'cat', '/data/kept')
  await Promise.all([cluster.kill('n1'), cluster.kill('n2')])
})

afterAll(() => cluster?.end())

async function get(path: string, headers: Record<string, string> = {}): Promise<{ status: number; text: string }> {
  const authorization = `Bearer ${readFileSync(cluster.tokenFile, 'utf8').trim()}`
  const answer = await fetch(`http://${cluster.ready('n3').http}${path}`, {
    headers: { authorization, ...headers },
    signal: AbortSignal.timeout(8_000),
  })
  return { status: answer.status, text: await answer.text() }
}

describe('a node that lost the others', () => {
  it('tells its owner how it stands', async () => {
    expect(await cluster.ok('n3', 'raft', 'status')).toMatch(/leader +none/)
    expect((await cluster.members('n3')).map(({ isLeader }) => isLeader)).toEqual([false, false, false])
  })

  it('answers over HTTP what needs no other, the stored files as it knows them among it', async () => {
    expect((await get('/v1/fs/sys/status')).status).toBe(200)
    expect(await get('/v1/fs/data/kept?consistency=stale')).toEqual({ status: 200, text: 'kept' })
  })

  it('is not ready, and says why', async () => {
    expect(await get('/readyz')).toEqual({ status: 503, text: expect.stringMatching(/^not ready: store \w+ has no leader/) as string })
  })

  it('changes nothing, and says of reads why they wait in vain', async () => {
    expect((await cluster.nine('n3', '--timeout', '2s', 'write', '/data/kept', 'changed')).code).toBe(24)
    const { status, text } = await get('/v1/fs/data/kept', { 'nine-timeout': '4000' })
    expect(status).toBe(504)
    expect(text).toMatch(/store data has no leader/)
  })

  it('goes on when another is back', async () => {
    await cluster.up('n1')
    await cluster.ok('n3', 'write', '/data/kept', 'again')
    expect(await cluster.ok('n1', 'cat', '/data/kept')).toBe('again')
    expect(await get('/readyz')).toEqual({ status: 200, text: 'ready\n' })
  })
})
