/** What is left of a cluster whose majority is gone: it changes nothing, and says so. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { TestCluster } from './nodes.ts'
import { until } from './processes.ts'

let cluster: TestCluster
const large = 'a large value '.repeat(8_000)
const reach = '1 of 3 members is reachable (n1, n2 are not)'

beforeAll(async () => {
  cluster = await TestCluster.make(['n1', 'n2', 'n3'])
  await cluster.up('n1', 'n2', 'n3')
  await cluster.ok('n3', 'write', '/data/kept', 'kept')
  await cluster.ok('n3', 'write', '/data/large', large)
  await cluster.ok('n3', 'ln', '-s', 'kept', '/data/link')
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

  it('answers stale reads of the command line, and refuses others', async () => {
    const stale = (...command: string[]): Promise<string> => cluster.ok('n3', ...command, '--consistency', 'stale')
    expect(await stale('cat', '/data/kept')).toBe('kept')
    expect(await stale('ls', '/data')).toBe('kept\nlarge\nlink\n')
    expect(await stale('tree', '/data')).toContain('link -> kept')
    expect(await stale('find', '/data', '--name', 'k*')).toBe('/data/kept\n')
    expect(await stale('grep', '-r', 'ep', '/data')).toBe('/data/kept:kept\n')
    expect(await stale('stat', '/data/kept')).toContain('/data/kept')
    expect(await stale('cat', '/data/large')).toBe(large)
    const copy = join(cluster.folder, 'copy')
    await stale('export', '/data', copy)
    expect(readFileSync(join(copy, 'large'), 'utf8')).toBe(large)
    await stale('diff', copy, '/data')
    const { code, stderr } = await cluster.nine('n3', 'ls', '/data', '--consistency', 'linearizable')
    expect({ code, stderr }).toMatchObject({ code: exitCodeOf('unavailable'), stderr: expect.stringContaining('no leader') as string })
  })

  it('answers over HTTP what needs no other, the stored files as it knows them among it', async () => {
    expect((await get('/v1/fs/sys/status')).status).toBe(200)
    expect(await get('/v1/fs/data/kept?consistency=stale')).toEqual({ status: 200, text: 'kept' })
  })

  it('is not ready once that lasts, and says why without paths of its machine', async () => {
    await until('the node is not ready', 20_000, async () => (await get('/readyz')).status === 503)
    expect(await get('/readyz')).toEqual({ status: 503, text: `not ready: store data has no leader: ${reach}\n` })
    expect((await get('/healthz')).status).toBe(200)
  })

  it('refuses changes and strict reads soon and with the reason, whatever time they have', async () => {
    const began = performance.now()
    const wrote = await cluster.nine('n3', '--json', 'write', '/data/kept', 'changed')
    const read = await cluster.nine('n3', 'cat', '/data/kept')
    expect(performance.now() - began).toBeLessThan(30_000)
    const { error } = JSON.parse(wrote.stderr) as { error: object }
    expect(error).toMatchObject({ kind: 'unavailable', outcome: 'none', message: `store data has no leader: ${reach}` })
    expect([wrote.code, read.code]).toEqual([exitCodeOf('unavailable'), exitCodeOf('unavailable')])
    expect(read.stderr).toBe(`nine: /data/kept: store data has no leader: ${reach} [unavailable]\n`)
    expect((await get('/v1/fs/data/kept')).status).toBe(503)
  })

  it('has said so in its log, once', () => {
    const said = cluster.node('n3').said().split('\n').filter((line) => line.includes('have no leader')) // prettier-ignore
    expect(said.map((line) => JSON.parse(line) as object)).toEqual([
      expect.objectContaining({ level: 40, stores: ['data', 'sys', 'usr'], reason: reach }),
    ])
    expect(cluster.node('n3').said()).not.toMatch(/"stack"/)
  })

  it('answers the same when it was started anew, and has told nobody that it is ready', { timeout: 60_000 }, async () => {
    await cluster.kill('n3', 'SIGTERM')
    const node = cluster.start('n3')
    await node.says(/not ready; what it can answer alone it does/)
    expect(await get('/readyz')).toEqual({
      status: 503,
      text: expect.stringMatching(/^not ready: waiting for a leader of data: n1 /) as string,
    })
    expect(await cluster.ok('n3', 'raft', 'status')).toMatch(/leader +none/)
    expect((await cluster.members('n3')).map(({ node: name }) => name)).toEqual(['n1', 'n2', 'n3'])
    expect(await get('/v1/fs/data/kept?consistency=stale')).toEqual({ status: 200, text: 'kept' })
    expect((await get('/metrics')).text).toMatch(/nine_raft_stores_leaderless 3[^]*nine_raft_terms [1-9]/)
    const wrote = await cluster.nine('n3', 'write', '/data/kept', 'changed')
    expect(wrote.stderr).toBe(`nine: /data/kept: store data has no leader: ${reach} [unavailable]\n`)
  })

  it('goes on when another is back', async () => {
    await cluster.up('n1')
    await cluster.node('n3').ready
    await cluster.ok('n3', 'write', '/data/kept', 'again')
    expect(await cluster.ok('n1', 'cat', '/data/kept')).toBe('again')
    expect(await get('/readyz')).toEqual({ status: 200, text: 'ready\n' })
  })
})
