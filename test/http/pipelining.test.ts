/** Requests of one connection that are sent before the answers: served in order, and only so many wait. */
import { expect, it } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { dial, untilClosed, untilReceived } from './raw.ts'
import { startEdge } from './start.ts'

it('requests that gather behind an answer that does not end close their connection, and nobody else’s', async () => {
  const http = await startEdge()
  const head = `host: x\r\nauthorization: Bearer ${http.owner}\r\n\r\n`
  const socket = await dial(http.port)
  const closed = untilClosed(socket)
  socket.write(`GET /v1/fs/?watch HTTP/1.1\r\n${head}`)
  await untilReceived(socket, /text\/event-stream/)
  expect(http.openWatches()).toBe(1)
  socket.write(`GET /healthz HTTP/1.1\r\n${head}`.repeat(limits.http_pipelined_max + 1))
  await closed
  expect((await http.fetch('/?list')).status).toBe(200)
  await http.close()
})
