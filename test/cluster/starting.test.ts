/** A node of a cluster that is told to end while it starts: it ends soon, says nothing odd, and leaves nothing in the way of the next start. */
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import type { Server } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { TestCluster } from './nodes.ts'

let cluster: TestCluster
const servers: Server[] = []

afterEach(async () => {
  for (const server of servers.splice(0)) server.close()
  await cluster.end()
})

/** Longer than any wait for a peer would be shorter. */
const soon_ms = 1_500

async function endOf(name: string, signal: NodeJS.Signals): Promise<{ code: number | null; stderr: string; ms: number }> {
  const began = performance.now()
  const { code, stderr } = await cluster.kill(name, signal)
  return { code, stderr, ms: performance.now() - began }
}

describe('a node that waits for the others of a cluster that is to be', () => {
  it.each(['SIGTERM', 'SIGINT'] as const)('ends with %s as if it had served, and may be started again', async (signal) => {
    cluster = await TestCluster.make(['n1', 'n2', 'n3'])
    await cluster.start('n1').says(/waiting for n2/)
    const { code, stderr, ms } = await endOf('n1', signal)
    expect(code).toBe(0)
    expect(ms).toBeLessThan(soon_ms)
    for (const line of stderr.trim().split('\n')) expect(line).toMatch(/^nine: waiting for n[23] /)
    expect(existsSync(join(cluster.folder, 'n1.ready'))).toBe(false)
    expect(existsSync(join(cluster.data('n1'), 'cluster.json'))).toBe(false)
    await cluster.up('n1', 'n2', 'n3')
  })

  it('ends although a peer takes connections and never answers', async () => {
    cluster = await TestCluster.make(['n1', 'n2'])
    const silent = createServer(() => undefined)
    servers.push(silent)
    const [host, port] = cluster.addresses.get('n2')!.split(':') as [string, string]
    const connected = new Promise((resolve) => silent.once('connection', resolve))
    await new Promise<void>((resolve) => silent.listen(Number(port), host, resolve))
    cluster.start('n1')
    await connected
    const { code, stderr, ms } = await endOf('n1', 'SIGTERM')
    expect([code, stderr.replaceAll(/nine: (waiting|warning).*\n/g, '')]).toEqual([0, ''])
    expect(ms).toBeLessThan(soon_ms)
  })
})

describe('a member that waits for a majority', () => {
  it('ends with SIGTERM, and has never said that it is ready', async () => {
    cluster = await TestCluster.make(['n1', 'n2', 'n3'])
    await cluster.up('n1', 'n2', 'n3')
    for (const name of ['n1', 'n2', 'n3']) await cluster.kill(name)
    await cluster.start('n1').says(/not ready/)
    const { code, ms } = await endOf('n1', 'SIGTERM')
    expect(code).toBe(0)
    expect(ms).toBeLessThan(soon_ms)
    expect(existsSync(join(cluster.folder, 'n1.ready'))).toBe(false)
    await cluster.up('n1', 'n2', 'n3')
  })
})
