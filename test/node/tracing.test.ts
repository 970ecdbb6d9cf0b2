/** Traces: a node told by the standard variables sends spans below the trace its caller names. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { expect, it } from 'vitest'

interface Span {
  readonly traceId: string
  readonly parentSpanId: string
  readonly name: string
  readonly attributes: readonly { readonly key: string; readonly value: { readonly stringValue: string } }[]
}

/** A collector that understands the JSON form of OTLP. */
async function collector() {
  const spans: Span[] = []
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const body = JSON.parse(Buffer.concat(parts).toString()) as { resourceSpans: { scopeSpans: { spans: Span[] }[] }[] }
      spans.push(...body.resourceSpans.flatMap((resource) => resource.scopeSpans.flatMap((scope) => scope.spans)))
      response.setHeader('content-type', 'application/json').end('{}')
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { spans, endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close: () => server.close() }
}

it('arrive below the trace that the caller names, before the node has ended', async () => {
  const { spans, endpoint, close } = await collector()
  const folder = await mkdtemp(join(tmpdir(), 'ninefold-trace-'))
  const nine = join(import.meta.dirname, '..', '..', 'dist', 'cli', 'nine.js')
  const args = [
    'up',
    '--data',
    join(folder, 'data'),
    '--http',
    '127.0.0.1:0',
    '--grpc',
    '127.0.0.1:0',
    '--ready-file',
    join(folder, 'ready'),
  ]
  const child = spawn(process.execPath, [nine, ...args], { env: { ...process.env, OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }, stdio: ['ignore', 'pipe', 'inherit'] }) // prettier-ignore
  try {
    // It prints what it listens on once it serves.
    await once(child.stdout, 'data')
    const ready = JSON.parse(readFileSync(join(folder, 'ready'), 'utf8')) as { http: string; tokenFile: string }
    const traceId = '0af7651916cd43dd8448eb211c80319c'
    const headers = { authorization: `Bearer ${readFileSync(ready.tokenFile, 'utf8')}`, traceparent: `00-${traceId}-b7ad6b7169203331-01` }
    expect((await fetch(`http://${ready.http}/v1/fs/data/traced`, { method: 'PUT', body: 'x', headers })).status).toBeLessThan(300)
    expect((await fetch(`http://${ready.http}/v1/fs/data/nothing`, { headers })).status).toBe(404)
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    await ended
    const ours = spans.filter((span) => span.traceId === traceId)
    expect(ours.map((span) => span.name)).toContain('write')
    for (const span of ours) expect(span.parentSpanId).toBe('b7ad6b7169203331')
    const attributes = Object.fromEntries(
      ours.find((span) => span.name === 'write')!.attributes.map(({ key, value }) => [key, value.stringValue]),
    )
    expect(attributes['nine.path']).toBe('/data/traced')
    expect(JSON.stringify(ours)).toContain('not_found')
  } finally {
    child.kill('SIGKILL')
    close()
    await rm(folder, { recursive: true, force: true })
  }
}, 60_000)
