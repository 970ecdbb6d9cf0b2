/** A server that resets a connection at once, which can be told as early as the first write. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { isNineError } from '../../namespace/errors.ts'
import { dial } from '../../namespace/remote/dial.ts'

// Another process, so that its reset arrives between any two steps of this one.
const resetting = `
  const server = require('node:net').createServer((socket) => socket.resetAndDestroy())
  server.listen(0, '127.0.0.1', () => console.log(server.address().port))`
const server = spawn(process.execPath, ['-e', resetting], { stdio: ['ignore', 'pipe', 'inherit'] })
const uncaught: unknown[] = []
const note = (error: unknown): void => void uncaught.push(error)

beforeAll(() => void process.on('uncaughtException', note))
afterAll(() => {
  process.off('uncaughtException', note)
  server.kill()
})

it('is a connection that failed, never an error that nobody could catch', async () => {
  const [said] = (await once(server.stdout, 'data')) as [Buffer]
  const address = `127.0.0.1:${said.toString().trim()}`
  for (let attempt = 0; attempt < 3000; attempt++) {
    try {
      const stream = await dial({ address, token: 'none' })
      stream.on('error', () => undefined)
      stream.destroy()
    } catch (error) {
      expect(isNineError(error, 'unavailable')).toBe(true)
    }
  }
  expect(uncaught).toEqual([])
})
