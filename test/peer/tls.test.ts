/** TLS between peers: both sides show a certificate of the cluster's authority. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTcp } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { connectionReason } from '../../namespace/remote/tls-reason.ts'
import type { PeerTls } from '../../services/peer/ports.ts'
import { closeNodes, connected, introduce, startNode } from './nodes.ts'

let ours: PeerTls
let theirs: PeerTls

/** An authority and a certificate for loopback signed by it. */
function authority(): PeerTls {
  const dir = mkdtempSync(join(tmpdir(), 'nine-peer-tls-'))
  const at = (name: string): string => join(dir, name)
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'ignore' })
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl('req', '-x509', ...curve, '-days', '1', '-subj', '/CN=cluster', '-keyout', at('ca.key'), '-out', at('ca'))
  openssl('req', ...curve, '-subj', '/CN=node', '-keyout', at('key'), '-out', at('request'))
  writeFileSync(at('names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1')
  const signed = ['-CA', at('ca'), '-CAkey', at('ca.key'), '-CAcreateserial', '-days', '1', '-extfile', at('names')]
  openssl('x509', '-req', '-in', at('request'), ...signed, '-out', at('cert'))
  const made = { ca: readFileSync(at('ca')), cert: readFileSync(at('cert')), key: readFileSync(at('key')) }
  rmSync(dir, { recursive: true })
  return made
}

beforeAll(() => {
  ours = authority()
  theirs = authority()
})

afterEach(closeNodes)

describe('peers over TLS', () => {
  it('are served as over plain connections, with a secret or without', async () => {
    for (const secret of ['s', '']) {
      const a = await startNode('n1.a', { tls: ours, secret })
      const b = await startNode('n2.b', { tls: ours, secret, listen: { host: '0.0.0.0', port: 0 } })
      introduce(a, b)
      a.addresses.set('n2.b', b.peer.address.replace('0.0.0.0', '127.0.0.1'))
      await connected(a, b)
      a.peer.send('n2.b', { kind: 'beat', life: 1 })
      await b.until(() => b.received.length === 1)
      expect(Buffer.from(await a.peer.call(a.addresses.get('n2.b')!, 'who', Buffer.from('x'))).toString()).toBe('x')
      await closeNodes()
    }
  })

  it('refuse a certificate of another authority, on either side', async () => {
    const b = await startNode('n2.b', { tls: ours })
    const a = await startNode('n1.a', { tls: theirs })
    introduce(a, b)
    await expect(connected(a, b)).rejects.toMatchObject({ kind: 'unavailable', outcome: 'none' })
    // One that believes in b's authority and shows a certificate that b does not believe in.
    const c = await startNode('n3.c', { tls: { ...theirs, ca: ours.ca } })
    introduce(c, b)
    await expect(connected(c, b)).rejects.toMatchObject({ kind: 'unavailable', outcome: 'none' })
    expect(b.received).toEqual([])
    expect(b.peer.status().peers).toEqual([])
    while (b.peer.status().connections > 0) await new Promise(setImmediate)
  })

  it('refuse who shows no certificate, and who speaks plainly', async () => {
    const b = await startNode('n2.b', { tls: ours, limits: { peer_dial_ms: 500 } })
    const [host, port] = b.peer.address.split(':')
    const bare = connectTls({ host: host!, port: Number(port), ca: ours.ca, ALPNProtocols: ['h2'] })
    bare.on('error', () => undefined)
    bare.resume()
    await new Promise((resolve) => bare.on('close', resolve))
    const plain = await startNode('n1.a')
    introduce(plain, b)
    await expect(connected(plain, b)).rejects.toMatchObject({ kind: 'unavailable', outcome: 'none' })
    await b.until(() => b.peer.status().garbage >= 2)
    while (b.peer.status().connections > 0) await new Promise(setImmediate)
  })

  it('are served beside garbage, of which the log says in plain words what it was', async () => {
    const b = await startNode('n2.b', { tls: ours })
    const [host, port] = b.peer.address.split(':')
    const reasons = async (...bytes: Uint8Array[]): Promise<string[]> => {
      for (const some of bytes) {
        const socket = connectTcp({ host: host!, port: Number(port) })
        socket.on('error', () => undefined)
        socket.resume()
        socket.write(some)
        await new Promise((resolve) => socket.on('close', resolve))
      }
      await b.until(() => b.events.length === 1)
      return b.events.splice(0).map(({ event, error }) => `${event}: ${error?.message}`)
    }
    const noTls = ['garbage: it speaks no TLS']
    // The same of one stranger is said once.
    expect(await reasons(Buffer.from('GET / HTTP/1.1\r\n\r\n'), randomBytes(1_000_000), Buffer.alloc(1_000_000))).toEqual(noTls)
    const bare = connectTls({ host: host!, port: Number(port), ca: ours.ca, ALPNProtocols: ['h2'] })
    const told = new Promise<Error>((resolve) => bare.on('error', resolve))
    bare.resume()
    expect(connectionReason(await told, 'x')).toMatch(/^a certificate was asked for and none was shown/)
    expect(await reasons()).toEqual([expect.stringMatching(/^garbage: a certificate was asked for and none was shown/)])
    const a = await startNode('n1.a', { tls: ours })
    introduce(a, b)
    await connected(a, b)
    while (b.peer.status().connections > 1) await new Promise(setImmediate)
  })

  it('refuse a node whose certificate is not for the address that was dialled', async () => {
    const a = await startNode('n1.a', { tls: { ...ours, serverName: 'another.example' } })
    const b = await startNode('n2.b', { tls: ours })
    introduce(a, b)
    await expect(connected(a, b)).rejects.toMatchObject({ kind: 'unavailable' })
    expect(a.peer.status().peers[0]!.lastError).toMatch(/another\.example/)
  })
})
