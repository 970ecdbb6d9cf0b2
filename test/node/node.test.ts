/** The node as a whole: what keeps it from starting, what it leaves behind then, how it ends, what it tells of itself. */
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stream } from '../../namespace/serve/entries.ts'
import { defineService } from '../../sdk/service.ts'
import { failure, TestNode } from './running.ts'

let node: TestNode

beforeAll(async () => {
  node = await TestNode.start()
}, 60_000)

afterAll(() => node.close())

describe('what keeps a node from starting', () => {
  it('is said, and taken down again: the folder is free after', async () => {
    const own = await TestNode.start()
    await own.stop()
    const taken = createServer()
    taken.listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const address = `127.0.0.1:${(taken.address() as AddressInfo).port}`
    for (const which of ['http', 'grpc']) {
      const error = await failure(own.start({ [which]: address }), 'unavailable')
      expect(error.message).toContain(address)
      expect(error.message).toContain('another program')
    }
    for (const bad of ['127.0.0.1', '127.0.0.1:99999', ':1', 'http://127.0.0.1:1', '127.0.0.1:x', '']) {
      await failure(own.start({ http: bad }), 'invalid')
      await failure(own.start({ grpc: bad }), 'invalid')
    }
    for (const open of ['0.0.0.0:0', '[::]:0', 'example.org:0']) {
      expect((await failure(own.start({ http: open }), 'invalid')).message).toContain('TLS')
      expect((await failure(own.start({ grpc: open }), 'invalid')).message).toContain('TLS')
    }
    await failure(own.start({ logLevel: 'loud' }), 'invalid')
    const file = join(own.folder, 'file')
    await writeFile(file, '')
    await failure(own.start({ logFile: join(file, 'log') }), 'invalid')
    await own.start()
    taken.close()
    await own.close()
  })

  it('is a folder that is a file, or one in use', async () => {
    const file = join(node.folder, 'file')
    await writeFile(file, 'no folder')
    const own = await TestNode.start()
    const error = await failure(
      own.start({ data: file }).then(() => undefined),
      'invalid',
    )
    expect(error.message).toContain(file)
    const inUse = await failure(own.start({ data: node.data }), 'unavailable')
    expect(inUse.message).toContain(String(process.pid))
    await own.close()
  })

  it('does not matter to a folder that was only made', async () => {
    const data = join(node.folder, 'made')
    await mkdir(data)
    const own = await TestNode.start({ data })
    await own.close()
  })
})

describe('the end of a node', () => {
  it('comes soon with sessions, watches and streams open, over both edges', async () => {
    const own = await TestNode.start()
    const session = await own.connect()
    const grpc = await own.connect({ transport: 'grpc' })
    await own.serve(defineService('quiet', { never: stream(async function* ({ signal }) {
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      yield 'end'
    }) })) // prettier-ignore
    const watching = Promise.allSettled(
      [session, grpc].map(async ({ client }) => {
        for await (const event of client.watch('/data', { recursive: true })) expect(event).toBeDefined()
      }),
    )
    const overHttp = await own.fetch('/v1/fs/data?watch=recursive')
    const never = own.fetch('/v1/fs/svc/quiet/never').then((answer) => answer.text()).catch(() => 'cut') // prettier-ignore
    await session.client.write('/data/acknowledged', 'kept')
    const from = performance.now()
    const addresses = await own.stop()
    expect(performance.now() - from).toBeLessThan(8_000)
    await overHttp.text().catch(() => undefined)
    await never
    await session.close()
    await grpc.close()
    await watching
    await own.start(addresses)
    const next = await own.connect()
    expect(await next.client.readText('/data/acknowledged')).toBe('kept')
    await own.close()
  }, 60_000)

  it('can be asked for twice', async () => {
    const own = await TestNode.start()
    const running = own.node
    await Promise.all([running.close(), running.close()])
    await running.close()
    await own.close()
  })
})

describe('what it tells of itself', () => {
  it('counts operations and failures in its metrics, by name and kind', async () => {
    const { client } = await node.connect()
    await client.write('/data/counted', 'x')
    await failure(client.read('/data/not-there'), 'not_found')
    const answer = await node.fetch('/metrics')
    expect(answer.headers.get('content-type')).toContain('text/plain')
    const text = await answer.text()
    expect(text).toMatch(/^nine_operations_total\{op="write"\} [1-9]/m)
    expect(text).toMatch(/^nine_failures_total\{op="read",kind="not_found"\} 1$/m)
    expect(text).toMatch(/^nine_sessions [1-9]/m)
    expect(text).toMatch(/^nine_wal_bytes \d+$/m)
    expect(text).toMatch(/^nine_stores_troubled 0$/m)
    expect(text).toMatch(/^nine_disk_free_bytes [1-9]/m)
    expect(await client.readText('/sys/metrics')).toContain('nine_operations_total')
  })

  it('says nothing on standard error for a watch of a root of many members', async () => {
    const warnings: Error[] = []
    const onWarning = (warning: Error): void => void warnings.push(warning)
    process.on('warning', onWarning)
    const { client, namespace } = await node.connect()
    await client.mkdir('/data/members')
    for (let i = 0; i < 12; i++) {
      await client.mkdir(`/data/members/${i}`)
      await namespace.save(`bind /data/members/${i} /member-${i}`)
    }
    const gone = new AbortController()
    expect((await node.fetch('/v1/fs/?watch=recursive', { signal: gone.signal })).status).toBe(200)
    expect((await node.fetch('/v1/fs/?list&recursive&limit=5')).status).toBe(200)
    gone.abort()
    for (let i = 0; i < 12; i++) await namespace.save(`unmount /member-${i}`)
    process.off('warning', onWarning)
    expect(warnings.filter(({ name }) => name === 'MaxListenersExceededWarning')).toEqual([])
  })

  it('is healthy and ready', async () => {
    expect((await fetch(`http://${node.node.http}/healthz`)).status).toBe(200)
    expect((await fetch(`http://${node.node.http}/readyz`)).status).toBe(200)
  })

  it('shows its status, and counts sessions down when they end', async () => {
    const { client } = await node.connect()
    const before = JSON.parse(await client.readText('/sys/status')) as { sessions: number }
    const more = await node.connect()
    await more.client.stat('/')
    await more.client.write('/usr/owner/namespace', '# one\n')
    await node.fetch('/v1/fs/data')
    await more.client.write('/usr/owner/namespace', '# two\n')
    await node.fetch('/v1/fs/data')
    await more.client.remove('/usr/owner/namespace')
    await node.fetch('/v1/fs/data')
    await more.close()
    const sessions = (JSON.parse(await client.readText('/sys/status')) as { sessions: number }).sessions
    expect(sessions).toBeLessThanOrEqual(before.sessions + 1)
  })
})
