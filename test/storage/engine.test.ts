/** Opening and closing data folders, and what the engine says of those it cannot use. */
import { execFileSync } from 'node:child_process'
import { appendFileSync, chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Context } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import { nodeFiles, type WalFiles } from '../../storage/wal/files.ts'
import { openEngine } from '../../storage/engine/engine.ts'
import { testEngines } from './engines.ts'

const owner: Context = { principal: { name: 'owner', groups: [] }, deadline: Infinity }
const file = parsePath('/file')

const { inFolder, open } = testEngines()

describe('opening', () => {
  it('brings back what was written, without replaying what a clean close has saved', async () => {
    const engine = await open()
    const store = await engine.createStore('data')
    await store.write(owner, file, Buffer.from('kept'))
    const { id, incarnation, revision } = store
    await engine.close()
    const again = await open()
    expect(again.status().replayed).toBe(0)
    const reopened = again.store('data')
    expect([reopened.id, reopened.incarnation, reopened.revision]).toEqual([id, incarnation, revision])
    expect(Buffer.from((await reopened.read(owner, file)).bytes).toString()).toBe('kept')
  })

  it('replays what no checkpoint holds, for each of several stores', async () => {
    const engine = await open()
    for (const name of ['one', 'two']) {
      const store = await engine.createStore(name)
      await store.write(owner, file, Buffer.from(`saved ${name}`))
    }
    await engine.save()
    for (const name of ['one', 'two']) await engine.store(name).write(owner, file, Buffer.from(`then ${name}`))
    const copy = inFolder('copy')
    cpSync(engine.dir, copy, { recursive: true })
    const again = await open({ dir: copy })
    expect(again.status().replayed).toBe(2)
    for (const name of ['one', 'two']) {
      expect(Buffer.from((await again.store(name).read(owner, file)).bytes).toString()).toBe(`then ${name}`)
    }
  })

  it('is refused with the log of another data folder, however long it is', async () => {
    for (const [name, writes] of [
      ['one', 2],
      ['two', 9],
    ] as const) {
      const engine = await open({ dir: inFolder(name) })
      const store = await engine.createStore('data')
      for (let i = 0; i < writes; i++) await store.write(owner, file, Buffer.from(`${name} ${i}`))
      await engine.close()
    }
    rmSync(inFolder('one', 'wal'), { recursive: true })
    cpSync(inFolder('two', 'wal'), inFolder('one', 'wal'), { recursive: true })
    await expect(open({ dir: inFolder('one') })).rejects.toMatchObject({
      kind: 'corrupt',
      message: expect.stringContaining('not the one of this folder') as string,
    })
  })

  it('is refused while another engine has the folder, and names its process', async () => {
    const engine = await open()
    await expect(openEngine({ dir: engine.dir, owner: 'owner' })).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining(`pid ${process.pid}`) as string,
    })
  })

  it('frees the folder when it fails', async () => {
    const engine = await open()
    await engine.close()
    const stores = join(engine.dir, 'stores.json')
    writeFileSync(stores, '[{"group":')
    await expect(open()).rejects.toMatchObject({ kind: 'corrupt', path: stores })
    rmSync(stores)
    await open()
  })

  it.each([
    ['a file in its place', 'not_directory', (dir: string) => writeFileSync(dir, 'x')],
    ['a file above it', 'not_directory', (dir: string) => (writeFileSync(join(dir, '..', 'above'), 'x'), join(dir, '..', 'above', 'data'))],
    ['a folder with other things', 'invalid', (dir: string) => (mkdirSync(dir), writeFileSync(join(dir, 'thesis.tex'), 'x'))],
    ['a newer format', 'unsupported', (dir: string) => (mkdirSync(dir), writeFileSync(join(dir, 'format'), 'ninefold data 2\n'))],
    ['a damaged format', 'corrupt', (dir: string) => (mkdirSync(dir), writeFileSync(join(dir, 'format'), 'ninefold d'))],
  ])('tells of %s', async (_, kind, make) => {
    const dir = inFolder('data')
    const made = make(dir)
    await expect(openEngine({ dir: typeof made === 'string' ? made : dir, owner: 'owner' })).rejects.toMatchObject({ kind })
  })

  it('tells of a folder that may not be written', async (test) => {
    const dir = inFolder('data')
    await (await open()).close()
    if (process.getuid?.() === 0) {
      try {
        execFileSync('mount', ['--bind', dir, dir], { stdio: 'ignore' })
        execFileSync('mount', ['-o', 'remount,ro,bind', dir], { stdio: 'ignore' })
      } catch {
        return test.skip('mounting is not permitted here')
      }
      try {
        await expect(openEngine({ dir, owner: 'owner' })).rejects.toMatchObject({ kind: 'read_only', path: dir })
      } finally {
        execFileSync('umount', ['-l', dir])
      }
    } else {
      chmodSync(dir, 0o500)
      await expect(openEngine({ dir, owner: 'owner' })).rejects.toMatchObject({ kind: 'denied', path: dir })
      chmodSync(dir, 0o700)
    }
  })
})

describe('stores', () => {
  it('are made once, have different identities, and are not found under other names', async () => {
    const engine = await open()
    const one = await engine.createStore('one')
    const two = await engine.createStore('two')
    expect(one.id).not.toBe(two.id)
    await expect(engine.createStore('one')).rejects.toMatchObject({ kind: 'exists' })
    await expect(engine.createStore('a/b')).rejects.toMatchObject({ kind: 'invalid' })
    expect(() => engine.store('three')).toThrow(expect.objectContaining({ kind: 'not_found' }) as Error)
  })

  it('answer positions of each other and of another life with compacted', async () => {
    const engine = await open()
    const one = await engine.createStore('one')
    const two = await engine.createStore('two')
    const { position } = await one.write(owner, file, Buffer.from('x'))
    await two.write(owner, file, Buffer.from('x'))
    const restored = [{ ...position[0]!, incarnation: 'before' }]
    await expect(two.read(owner, file, { at: position })).rejects.toMatchObject({ kind: 'compacted' })
    await expect(one.read(owner, file, { at: restored })).rejects.toMatchObject({ kind: 'compacted' })
    await expect(one.read(owner, file, { minPosition: restored })).rejects.toMatchObject({ kind: 'compacted' })
    const watch = one.watch(owner, file, { from: restored })[Symbol.asyncIterator]()
    await expect(watch.next()).rejects.toMatchObject({ kind: 'compacted', resume: expect.any(String) as string })
    await expect(one.read(owner, file, { at: [{ ...position[0]!, revision: 99 }] })).rejects.toMatchObject({ kind: 'invalid' })
  })
})

describe('closing', () => {
  it('takes no more changes, and ends watches', async () => {
    const engine = await open()
    const store = await engine.createStore('data')
    const watch = store.watch(owner, file)[Symbol.asyncIterator]()
    await watch.next()
    const next = watch.next()
    next.catch(() => undefined)
    await engine.close()
    await expect(store.write(owner, file, Buffer.from('late'))).rejects.toMatchObject({ kind: 'unavailable', outcome: 'none' })
    await expect(next).rejects.toMatchObject({ kind: 'unavailable' })
  })

  it('cuts the log behind what was saved', async () => {
    const engine = await open({ tuning: { walSegmentBytes: 1024 * 1024 } })
    const store = await engine.createStore('data')
    const value = Buffer.alloc(100_000, 'v')
    for (let i = 0; i < 60; i++) await store.write(owner, file, value)
    expect(engine.status().wal.segments).toBeGreaterThan(3)
    await engine.save()
    expect(engine.status().wal.segments).toBeLessThan(4)
    expect(engine.status().stores[0]!.overlayBytes).toBeLessThan(200_000)
  })
})

describe('a log that has failed', () => {
  it('stops changes, with outcome unknown for those under way, and goes on reading; opening anew goes on', async () => {
    let isBroken = false
    const broken = (): Error => Object.assign(new Error('EIO: i/o error, write'), { code: 'EIO' })
    const walFiles: WalFiles = {
      ...nodeFiles,
      open: (path, mode) => {
        const real = nodeFiles.open(path, mode)
        return {
          size: real.size,
          read: (into, position) => real.read(into, position),
          write: (bytes, position) => real.write(bytes, position),
          sync: () => real.sync(),
          writeDurable: (bytes, position, done) => (isBroken ? done(broken()) : real.writeDurable(bytes, position, done)),
          writeDurableSync: (bytes, position) => {
            if (isBroken) throw broken()
            real.writeDurableSync(bytes, position)
          },
          close: () => real.close(),
        }
      },
    }
    const engine = await open({ walFiles })
    const store = await engine.createStore('data')
    await store.write(owner, file, Buffer.from('before'))
    isBroken = true
    await expect(store.write(owner, file, Buffer.from('lost'))).rejects.toMatchObject({
      kind: 'internal',
      outcome: 'unknown',
      path: '/file',
    })
    await expect(store.write(owner, file, Buffer.from('late'))).rejects.toMatchObject({ kind: 'unavailable', outcome: 'none' })
    expect(engine.status()).toMatchObject({ isWritable: false, failure: expect.stringContaining('EIO') as string })
    expect(Buffer.from((await store.read(owner, file)).bytes).toString()).toBe('before')
    await engine.close()
    const again = await open()
    expect(Buffer.from((await again.store('data').read(owner, file)).bytes).toString()).toBe('before')
    await again.store('data').write(owner, file, Buffer.from('after'))
  })
})

it('writes a log of its own making only', async () => {
  const engine = await open()
  await engine.createStore('data')
  await engine.close()
  expect(existsSync(join(engine.dir, 'lock'))).toBe(true)
  expect(readFileSync(join(engine.dir, 'format'), 'utf8')).toBe('ninefold data 1\n')
  appendFileSync(join(engine.dir, 'format'), 'more')
  await expect(open()).rejects.toMatchObject({ kind: 'corrupt' })
})
