/** Services of other processes: the examples as they are, and what is seen when a process is killed or stands still. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isNineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Session } from '../../sdk/session.ts'
import { eventually, failure, TestNode, textOrKind } from './running.ts'

const root = join(import.meta.dirname, '..', '..')
let node: TestNode
let owner: Session
const children: ChildProcess[] = []
const counters: ChildProcess[] = []

beforeAll(async () => {
  node = await TestNode.start()
  owner = await node.connect()
}, 60_000)

afterAll(async () => {
  for (const child of children) child.kill('SIGKILL')
  await node.close()
})

/** Run an example as README says, until it says that it serves. */
async function example(name: string): Promise<ChildProcess> {
  const env = { ...process.env, NINE_ADDR: node.node.grpc, NINE_TOKEN_FILE: node.node.tokenFile }
  const child = spawn(process.execPath, [`examples/${name}.mjs`], { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  if (name === 'counter') counters.push(child)
  let said = ''
  await new Promise<void>((resolve, reject) => {
    const onText = (part: Buffer): void => {
      said += String(part)
      if (said.includes(`${name} serves /svc/${name}`)) resolve()
    }
    child.stdout.on('data', onText)
    child.stderr.on('data', onText)
    child.once('exit', (code) => reject(new Error(`examples/${name}.mjs exited with ${code}: ${said}`)))
  })
  return child
}

async function kill(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}

async function becomes(path: string, expected: string | RegExp, ms?: number): Promise<void> {
  await eventually(async () => {
    const found = await textOrKind(owner, path)
    return (typeof expected === 'string' ? found === expected : expected.test(found)) ? true : undefined
  }, ms)
}

describe('examples', () => {
  it('clock: a computed file and a stream', async () => {
    await example('clock')
    expect(await owner.client.readText('/svc/clock/now')).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z\n$/)
    const ticks: string[] = []
    for await (const tick of owner.client.readStream('/svc/clock/ticks')) {
      ticks.push(Buffer.from(tick).toString())
      if (ticks.length === 2) break
    }
    expect(ticks[1]! > ticks[0]!).toBe(true)
  })

  it('counter: told what to do by lines', async () => {
    const counter = await example('counter')
    await owner.client.write('/svc/counter/ctl', 'add 5')
    await owner.client.write('/svc/counter/ctl', 'add\nadd 2\n')
    expect(await owner.client.readText('/svc/counter/value')).toBe('8\n')
    await failure(owner.client.write('/svc/counter/ctl', 'explode'), 'invalid')
    await kill(counter)
    await becomes('/svc/counter/value', 'unavailable')
    await example('counter')
    await becomes('/svc/counter/value', '0\n')
  })

  it('notes: files stay when the process is killed, and anyone may write them directly', async () => {
    const notes = await example('notes')
    await owner.client.write('/svc/notes/ctl', 'add buy milk')
    await owner.client.write('/svc/notes/all/own.txt', 'direct\n')
    expect(await owner.client.readText('/svc/notes/count')).toBe('2\n')
    await kill(notes)
    await becomes('/svc/notes/count', 'unavailable')
    const { entries } = await owner.client.listAll('/svc/notes/all')
    expect(entries).toHaveLength(2)
    expect(await owner.client.readText(`/svc/notes/all/${entries[0]!.name}`)).toBe('buy milk\n')
    await example('notes')
    await becomes('/svc/notes/count', '2\n')
  })

  it('desk: the other three as one tree', async () => {
    await example('desk')
    const names = (await owner.client.listAll('/svc/desk', { recursive: true })).entries.map((entry) => entry.name)
    expect(names).toEqual(expect.arrayContaining(['clock', 'clock/now', 'counter', 'counter/value', 'notes', 'notes/all', 'notes/count']))
    await owner.client.write('/svc/desk/counter/ctl', 'add 3')
    await becomes('/svc/counter/value', '3\n')
    expect(await owner.client.readText('/svc/desk/notes/all/own.txt')).toBe('direct\n')
  })

  it('all come back when the node was away', async () => {
    await node.start(await node.stop())
    await becomes('/svc/clock/now', /Z\n$/)
    await becomes('/svc/desk/counter/value', '3\n')
    await becomes('/svc/desk/notes/count', '2\n')
  }, 60_000)
})

describe('a process that stands still', () => {
  it('is no longer listed after its lease, and again when it goes on', async () => {
    const counter = counters.at(-1)!
    const from = performance.now()
    counter.kill('SIGSTOP')
    // Until then it answers nothing: what is asked meets its own deadline.
    await eventually(async () => {
      const failed = await owner.client.read('/svc/counter/value', { timeoutMs: 200 }).catch((error: unknown) => error)
      return isNineError(failed, 'unavailable') ? true : undefined
    }, limits.service_lease_ms + 15_000)
    expect(performance.now() - from).toBeLessThan(limits.service_lease_ms + 10_000)
    counter.kill('SIGCONT')
    await becomes('/svc/counter/value', '3\n', limits.service_lease_ms + 15_000)
  }, 90_000)
})
