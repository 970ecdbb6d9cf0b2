/** Clusters of real processes over TLS: certificates of one authority, of another, of none. */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { startProxy } from '../faults/proxy.ts'
import type { FaultProxy } from '../faults/proxy.ts'
import { makeCertificates } from './certificates.ts'
import type { Certificates } from './certificates.ts'
import { TestCluster } from './nodes.ts'

let cluster: TestCluster

afterEach(async () => cluster.end())

function flagsOf(name: string, tls: Pick<Certificates, 'flags'>): string[] {
  return ['--node', name, '--peers', cluster.peers, '--token-file', cluster.tokenFile, ...tls.flags]
}

/** Resolves when the node has closed a connection that began so. */
async function refused(address: string, bytes: Uint8Array): Promise<void> {
  const [host, port] = address.split(':')
  const socket = connect({ host: host!, port: Number(port) })
  socket.on('error', () => undefined)
  socket.resume()
  socket.write(bytes)
  await new Promise((resolve) => socket.on('close', resolve))
}

/** An address of this machine that is not loopback. */
function outerAddress(): string | undefined {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ family, internal }) => family === 'IPv4' && !internal)?.address
}

describe('nodes over TLS', () => {
  it('are a cluster, and one with a certificate of another authority is kept out; both sides say why', async () => {
    cluster = await TestCluster.make(['n1', 'n2', 'n3'])
    const ours = makeCertificates(join(cluster.folder, 'ours'))
    const theirs = makeCertificates(join(cluster.folder, 'theirs'))
    const first = cluster.start('n1', flagsOf('n1', ours))
    const second = cluster.start('n2', flagsOf('n2', ours))
    const stranger = cluster.start('n3', flagsOf('n3', theirs))
    const why = /its certificate is not one of the authority in --peer-tls-ca/
    await first.says(new RegExp(`waiting for n3 \\(${cluster.addresses.get('n3')}\\): .*${why.source}`))
    await stranger.says(new RegExp(`n1 \\(${cluster.addresses.get('n1')}\\): .*${why.source}`))
    await cluster.kill('n3')
    await Promise.all([first.ready, second.ready, cluster.start('n3', flagsOf('n3', ours)).ready])
    await cluster.ok('n2', 'write', '/data/x', 'over TLS')
    for (const name of ['n1', 'n2', 'n3']) expect(await cluster.ok(name, 'cat', '/data/x')).toBe('over TLS')
    // A member that comes back with the wrong certificate serves nothing, and the others go on.
    await cluster.kill('n3')
    const back = cluster.start('n3', flagsOf('n3', theirs))
    const both = ['n1', 'n2'].map((name) => `${name} \\(${cluster.addresses.get(name)}\\): .*${why.source}`)
    await back.says(new RegExp(`waiting for a leader of \\w+: ${both.join('.*')}`))
    await cluster.ok('n1', 'write', '/data/x', 'without n3')
    await cluster.kill('n3')
    await cluster.start('n3', flagsOf('n3', ours)).ready
    expect(await cluster.ok('n3', 'cat', '/data/x')).toBe('without n3')
  })

  it('go through other ways, for which their certificates need not be, and on beside garbage at every port', async () => {
    const names = ['n1', 'n2', 'n3']
    cluster = await TestCluster.make(names)
    const tls = makeCertificates(join(cluster.folder, 'tls'))
    const proxies = new Map<string, FaultProxy>()
    try {
      for (const name of names) proxies.set(name, await startProxy(cluster.addresses.get(name)!))
      const clients = ['--tls-cert', tls.cert, '--tls-key', tls.key]
      const viaOf = (name: string): string =>
        // The certificates are for 127.0.0.1.
        names.filter((other) => other !== name).map((other) => `${other}=localhost:${proxies.get(other)!.address.split(':')[1]}`).join(',') // prettier-ignore
      const flags = (name: string): string[] => [...flagsOf(name, tls), ...clients, '--peer-via', viaOf(name)]
      await Promise.all(names.map((name) => cluster.start(name, flags(name)).ready))
      for (const { passed } of proxies.values()) expect(passed.toTarget).toBeGreaterThan(0)
      const { http, grpc } = cluster.ready('n1')
      for (const address of [cluster.addresses.get('n1')!, http, grpc]) {
        for (const garbage of [randomBytes(1_000_000), Buffer.alloc(1_000_000), Buffer.from('GET / HTTP/1.1\r\n\r\n')]) {
          await refused(address, garbage)
        }
      }
      await cluster.ok('n1', '--tls-ca', tls.ca, 'write', '/data/x', 'through TLS')
      expect(await cluster.ok('n3', '--tls-ca', tls.ca, 'cat', '/data/x')).toBe('through TLS')
      const said = cluster.node('n1').said()
      expect(said).toContain('it speaks no TLS')
      expect(said).not.toMatch(/SSL routines|"stack"/)
      // What it tells to try does not name its own certificate as an authority.
      const { stdout } = await cluster.kill('n1', 'SIGTERM')
      expect(stdout).toContain(`Where the authority of ${tls.cert} is not a well-known one: nine --tls-ca CA.pem, curl --cacert CA.pem`)
      expect(stdout).not.toContain(`--tls-ca ${tls.cert}`)
    } finally {
      for (const proxy of proxies.values()) await proxy.close()
    }
  })

  it('and nodes without it wait for each other and say why', async () => {
    cluster = await TestCluster.make(['n1', 'n2'])
    const tls = makeCertificates(join(cluster.folder, 'tls'))
    const bare = cluster.start('n1')
    const safe = cluster.start('n2', flagsOf('n2', tls))
    await bare.says(/waiting for n2 \(127[^)]*\): /)
    await safe.says(/waiting for n1 \(127[^)]*\): .*speaks no TLS/)
  })

  it('need it beyond loopback, and have it there', async () => {
    cluster = await TestCluster.make(['n1'])
    const outer = outerAddress()
    const port = cluster.addresses.get('n1')!.split(':')[1]!
    for (const flags of [
      ['--node', 'n1', '--peers', cluster.peers, '--peer-listen', `0.0.0.0:${port}`],
      ['--node', 'n1', '--peers', `${cluster.peers},n2=${outer ?? '10.0.0.1'}:${port}`],
      ['--node', 'n1', '--peers', cluster.peers, '--peer-listen', `[::]:${port}`],
    ]) {
      const { code, stderr } = await cluster.start('bare', flags).ended
      expect(stderr).toMatch(/ is not loopback: nodes that reach each other there need TLS/)
      expect(code).toBe(exitCodeOf('invalid'))
    }
    const tls = makeCertificates(join(cluster.folder, 'tls'), ...(outer === undefined ? [] : [outer]))
    if (outer !== undefined) cluster.addresses.set('n1', `${outer}:${port}`)
    await cluster.start('n1', [...flagsOf('n1', tls), '--peer-listen', `0.0.0.0:${port}`]).ready
    await cluster.ok('n1', 'write', '/data/x', '1')
  })

  it('refuse files that are no certificates, before anything is begun', async () => {
    cluster = await TestCluster.make(['n1'])
    const { ca, cert, key } = makeCertificates(join(cluster.folder, 'one'))
    const other = makeCertificates(join(cluster.folder, 'other'))
    const garbage = join(cluster.folder, 'garbage.pem')
    writeFileSync(garbage, 'no certificate')
    for (const [a, c, k] of [
      [ca, cert, other.key],
      [ca, garbage, key],
      [ca, cert, join(cluster.folder, 'missing')],
    ] as const) {
      const { code, stderr } = await cluster.start('bad', flagsOf('n1', { flags: ['--peer-tls-ca', a, '--peer-tls-cert', c, '--peer-tls-key', k] })).ended // prettier-ignore
      expect(stderr).toMatch(/cannot use .* between nodes: /)
      expect(code).toBe(exitCodeOf('invalid'))
    }
  })
})
