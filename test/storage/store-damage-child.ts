/**
 * Opens data folders with damage in them and reads everything. In: a line of JSON, {dir, expected: path to text}. Out: a
 * line, `ok`, `refused <kind>`, `answered <kinds>`, or `served <what>` where something was wrong and nobody said so.
 */
import { createInterface } from 'node:readline'
import { toNineError } from '../../namespace/errors.ts'
import { parsePath, rootPath } from '../../namespace/path.ts'
import { openEngine, type Engine } from '../../storage/engine/engine.ts'

const owner = { principal: { name: 'owner', groups: [] }, deadline: Infinity }

async function look(engine: Engine, expected: Record<string, string>): Promise<string> {
  const kinds = new Set<string>()
  const attempt = async (work: () => Promise<string | undefined>): Promise<string | undefined> => {
    try {
      return await work()
    } catch (error) {
      kinds.add(toNineError(error, 'test').kind)
      return undefined
    }
  }
  const store = engine.store('data')
  for (const [path, text] of Object.entries(expected)) {
    const wrong = await attempt(async () => {
      const { bytes } = await store.read(owner, parsePath(path))
      return Buffer.from(bytes).toString() === text ? undefined : `served ${path} with other bytes`
    })
    if (wrong !== undefined) return wrong
  }
  const listed = await attempt(async () => {
    const { entries } = await store.list(owner, rootPath, { recursive: true })
    const files = entries.filter((stat) => stat.kind === 'file').map((stat) => `/${stat.name}`)
    const missing = Object.keys(expected).filter((path) => !files.includes(path))
    return missing.length === 0 ? undefined : `served a list without ${missing.join(' ')}`
  })
  if (listed !== undefined) return listed
  const told = await attempt(async () => {
    let count = 0
    for await (const batch of store.watch(owner, rootPath, { recursive: true, from: 1 })) {
      for (const event of batch.events) {
        count++
        if (event.bytes !== undefined && event.bytes.length > 0 && expected[event.path] === undefined)
          return `served an event of ${event.path}`
      }
      if (batch.position[0]!.revision > store.revision) break
    }
    return count === 0 ? 'served a history without events' : undefined
  })
  if (told !== undefined) return told
  return kinds.size === 0 ? 'ok' : `answered ${[...kinds].join(' ')}`
}

async function judge(dir: string, expected: Record<string, string>): Promise<string> {
  let engine: Engine
  try {
    engine = await openEngine({ dir, owner: 'owner' })
  } catch (error) {
    return `refused ${toNineError(error, 'test').kind}`
  }
  try {
    return await look(engine, expected)
  } catch (error) {
    return `served ${String(error)}`
  } finally {
    await engine.close()
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { dir, expected } = JSON.parse(line) as { dir: string; expected: Record<string, string> }
  console.log(await judge(dir, expected))
}
