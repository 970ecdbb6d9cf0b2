/** A clock that stands hours back after a restart: times go on growing, and clients born then are served. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { Clock } from '../../namespace/clock.ts'
import type { Context } from '../../namespace/context.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import { openEngine } from '../../storage/engine/engine.ts'

const hour = 3600 * 1e6

function clockAt(start: number): Clock {
  return { now: () => start, monotonic: () => performance.now() }
}

function as(id: string, born: number): Context {
  return { principal: { name: 'owner', groups: [] }, deadline: Infinity, client: { id, born, settled: 0 }, seq: 1 }
}

it('clients of a node whose clock went back are not taken for forgotten ones', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'nine-clock-'))
  const path = parsePath('/f')
  try {
    const before = await openEngine({ dir, owner: 'owner', clock: clockAt(100 * hour) })
    const store = await before.createStore('data')
    const now = (): number => before.clock.now()
    for (let i = 0; i < limits.clients_max + 10; i += 10) {
      await Promise.all(Array.from({ length: 10 }, (_, j) => store.write(as(`c${i + j}`, now()), path, Buffer.from('x'))))
    }
    const { stat } = await store.stat(as('reader', 1), path)
    await before.close()

    const engine = await openEngine({ dir, owner: 'owner', clock: clockAt(97 * hour) })
    try {
      expect(engine.clock.now()).toBeGreaterThan(stat.modifiedAt)
      await engine.store('data').write(as('new', engine.clock.now()), path, Buffer.from('y'))
      const after = await engine.store('data').stat(as('reader', 1), path)
      expect(after.stat.modifiedAt).toBeGreaterThan(stat.modifiedAt)
      expect(after.stat.version).toBe(stat.version + 1)
    } finally {
      await engine.close()
    }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
})
