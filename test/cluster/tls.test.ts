/** Clusters of real processes over TLS: certificates of one authority, of another, of none. */
import { writeFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { makeCertificates } from './certificates.ts'
import type { Certificates } from './certificates.ts'
import { TestCluster } from './nodes.ts'

let cluster: TestCluster

afterEach(async () => cluster.end())

function flagsOf(name: string, tls: Pick<Certificates, 'flags'>): string[] {
  return ['--node', name, '--peers', cluster.peers, '--token-file', cluster.tokenFile, ...tls.flags]
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
