/** Promise 7: a full disk fails mutations with `no_space` and nothing else; once there is room they go on. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { isNineError } from '../../namespace/errors.ts'
import { parsePath } from '../../namespace/path.ts'
import { openEngine } from '../../storage/engine/engine.ts'
import { openEnvironment } from '../../storage/tree/environment.ts'
import { rowKey } from '../../storage/tree/rows.ts'

function mountSmall(megabytes: number): string | undefined {
  const dir = mkdtempSync(join(tmpdir(), 'nine-full-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', dir], { stdio: 'ignore' })
    return dir
  } catch {
    rmdirSync(dir)
    return undefined
  }
}

const owner = { principal: { name: 'owner', groups: [] }, deadline: Infinity }

it('a full disk answers no_space, reads go on, and writes go on after space was freed', async (test) => {
  const dir = mountSmall(40)
  if (dir === undefined) return test.skip('mounting a tmpfs is not permitted here')
  try {
    const options = {
      dir: join(dir, 'data'),
      owner: 'owner',
      tuning: { walSegmentBytes: 4 * 1024 * 1024, overlayBytesMax: 2 * 1024 * 1024 },
    }
    let engine = await openEngine(options)
    let store = await engine.createStore('data')
    const ballast = join(dir, 'ballast')
    writeFileSync(ballast, Buffer.alloc(12 * 1024 * 1024))
    const acked = new Map<string, number>()
    let full = 0
    for (let i = 0; full < 20; i++) {
      expect(i).toBeLessThan(5000)
      const path = `/f/${i}`
      try {
        await store.write(owner, parsePath(path), Buffer.alloc(i % 7 === 0 ? 200_000 : 20_000, i % 251), { parents: true })
        acked.set(path, i)
      } catch (error) {
        if (!isNineError(error, 'no_space')) throw error
        expect(error.outcome).toBe('none')
        full++
      }
    }
    expect(acked.size).toBeGreaterThan(10)
    const checkAll = async (): Promise<void> => {
      for (const [path, i] of acked) {
        const { bytes } = await store.read(owner, parsePath(path))
        expect(bytes.length).toBe(i % 7 === 0 ? 200_000 : 20_000)
        expect(bytes[bytes.length - 1]).toBe(i % 251)
      }
    }
    await checkAll()
    rmSync(ballast)
    // What the engine does by itself every second: after a save that succeeds, changes are taken again.
    await engine.save()
    await store.write(owner, parsePath('/f/after'), Buffer.from('room again'), { parents: true })
    await checkAll()
    await engine.close()
    engine = await openEngine(options)
    store = engine.store('data')
    await checkAll()
    expect(Buffer.from((await store.read(owner, parsePath('/f/after'))).bytes).toString()).toBe('room again')
    await engine.close()
  } finally {
    execFileSync('umount', ['-l', dir])
    rmdirSync(dir)
  }
}, 120_000)

it('a checkpoint that finds no room fails with no_space, and with no rejection that nobody handles', async (test) => {
  const dir = mountSmall(8)
  if (dir === undefined) return test.skip('mounting a tmpfs is not permitted here')
  try {
    const environment = await openEnvironment({ dir: join(dir, 'tree') })
    const ballast = join(dir, 'ballast')
    writeFileSync(ballast, Buffer.alloc(6 * 1024 * 1024))
    const write = (row: number): Promise<void> =>
      environment.write(() => {
        for (let i = 0; i < 10_000; i++) environment.tables.nodes.put(rowKey(1, row + i), Buffer.alloc(300, i))
        environment.tables.meta.remove(rowKey(1))
      })
    for (let i = 0; i < 3; i++) await expect(write(0)).rejects.toMatchObject({ kind: 'no_space' })
    expect(environment.tables.nodes.getRange({ start: rowKey(1), end: rowKey(2), limit: 10 })).toEqual([])
    rmSync(ballast)
    await write(10_000)
    expect(environment.tables.nodes.getRange({ start: rowKey(1), end: rowKey(2), limit: 10 })).toHaveLength(10)
    await environment.close()
  } finally {
    execFileSync('umount', ['-l', dir])
    rmdirSync(dir)
  }
}, 60_000)
