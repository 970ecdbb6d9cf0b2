/** What becomes of a backup that is given to a store: when its file goes, and which are refused. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../namespace/clock.ts'
import { contextFor } from '../../namespace/context.ts'
import type { ErrorKind } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { joinName, parsePath as at, type Path } from '../../namespace/path.ts'
import { folders } from '../../services/cluster/records.ts'
import { Restores, type RestorableStore } from '../../services/cluster/restores.ts'
import { restorableStore } from '../../services/node/restorable.ts'
import type { KnownRestore } from '../../storage/apply/restores.ts'
import { openEngine, type Engine } from '../../storage/engine/engine.ts'
import type { RestoreCommand } from '../../storage/model.ts'
import { writeBackupFile } from '../../storage/snapshot/backup.ts'
import { BlockReader } from '../../storage/snapshot/block-reader.ts'
import { BlockWriter } from '../../storage/snapshot/block-writer.ts'
import { encodeHeader } from '../../storage/snapshot/format.ts'
import { verifySnapshot } from '../../storage/snapshot/verify.ts'
import type { Store } from '../../storage/store/store.ts'

const owner = { name: 'owner', groups: [] }
const context = contextFor(owner, Infinity)

let base: string
let engine: Engine
let data: Store
let sys: Store
let bytes: Buffer
/** In the place of the store's own. */
let stead: Partial<RestorableStore>
let restores: Restores
/** Of what is tried again. */
let warned: (error: unknown) => void

beforeEach(async () => {
  base = mkdtempSync(join(tmpdir(), 'nine-restores-'))
  engine = await openEngine({ dir: join(base, 'data'), owner: owner.name })
  data = await engine.createStore('data')
  sys = await engine.createStore('sys')
  await data.write(context, at('/kept'), Buffer.from('first'))
  await writeBackupFile(await engine.backupParts('data'), join(base, 'backup'))
  bytes = readFileSync(join(base, 'backup'))
  await data.write(context, at('/kept'), Buffer.from('second'))
  stead = {}
  warned = (error) => expect.fail(String(error))
  let ids = 0
  restores = new Restores({
    sys,
    owner,
    chunks: engine.blobs,
    store: (name) => ({ ...restorableStore(engine, name), ...stead }),
    peers: undefined,
    id: () => `life ${++ids}`,
    clock: systemClock,
    warn: (error) => warned(error),
  })
})

afterEach(async () => {
  await restores.close()
  await engine.close()
  rmSync(base, { recursive: true, force: true })
})

const upload = (name: string, value = bytes): Promise<unknown> =>
  sys.write(context, joinName(folders.uploads, name), value, { parents: true })
const restore = (name: string): Promise<void> => restores.restore(context, 'data', name)
const read = async (): Promise<string> => Buffer.from((await data.read(context, at('/kept'))).bytes).toString()

async function namesIn(folder: Path): Promise<string[]> {
  return (await sys.list(context, folder)).entries.map(({ name }) => name)
}

const claimed = (): Promise<string[]> => namesIn(joinName(folders.restores, 'data'))

function answering(kind: ErrorKind): Pick<RestorableStore, 'restore'> {
  return { restore: async () => ({ kind: 'error', error: { kind, op: 'apply.restore', path: '/', message: kind } }) }
}

/** One whose every hash holds, of a state that is not what its header says. */
async function contradicting(): Promise<Buffer> {
  let at = 0
  const read = async (into: Uint8Array): Promise<number> => {
    const part = bytes.subarray(at, at + into.length)
    into.set(part)
    at += part.length
    return part.length
  }
  const reader = new BlockReader({ path: 'backup', read })
  const parts: Buffer[] = []
  const writer = new BlockWriter({ write: async (part) => void parts.push(Buffer.from(part)) }, 1 << 20)
  const header = await reader.begin()
  await writer.preamble()
  await writer.block('header', encodeHeader({ ...header, revision: header.revision + 1 }))
  for (;;) {
    const { type, payload } = await reader.next()
    await writer.block(type, type === 'end' || type === 'chunksEnd' ? writer.digest() : payload)
    if (type === 'chunksEnd') break
  }
  await writer.settle()
  return Buffer.concat(parts)
}

describe('a backup', () => {
  it('that cannot be loaded is refused before anything is agreed on, although every hash in it holds', async () => {
    const bad = await contradicting()
    writeFileSync(join(base, 'bad'), bad)
    await verifySnapshot(join(base, 'bad'))
    await upload('bad', bad)
    let asked = 0
    stead = { restore: () => Promise.reject(new Error(`asked ${++asked} times`)) }
    await expect(restore('bad')).rejects.toMatchObject({ kind: 'corrupt' })
    expect(asked).toBe(0)
    expect(await namesIn(folders.uploads)).toEqual(['bad'])
    expect(await read()).toBe('second')
    stead = {}
    await upload('good')
    await restore('good')
    expect(await read()).toBe('first')
  })
})

/** Of a store whose node's clock was ahead for a while, and was right again when it was backed up. */
async function backupOfAhead(name: string, ahead_ms: number): Promise<void> {
  const real = systemClock
  let ahead = ahead_ms * 1000
  const clock = { now: () => real.now() + ahead, monotonic: () => real.monotonic() }
  const source = await openEngine({ dir: join(base, name), owner: owner.name, clock })
  const store = await source.createStore('data')
  await store.write(context, at('/kept'), Buffer.from(name))
  ahead = 0
  await writeBackupFile(await source.backupParts('data'), join(base, `${name}.backup`))
  await source.close()
  await upload(name, readFileSync(join(base, `${name}.backup`)))
}

describe('a backup of a later time than the store is at', () => {
  it('is restored after the last time in it, by as much as clocks may differ', async () => {
    await backupOfAhead('soon', limits.clock_ahead_ms_max / 2)
    await restores.restore(context, 'data', 'soon', { force: true })
    expect(await read()).toBe('soon')
  })

  it('is refused before anything is agreed on where it is far ahead', async () => {
    await backupOfAhead('hour', 3_600_000)
    stead = { restore: () => Promise.reject(new Error('asked')) }
    await expect(restores.restore(context, 'data', 'hour', { force: true })).rejects.toMatchObject({
      kind: 'invalid',
      message: expect.stringMatching(/the clock of the store in this backup is 3\d{3} s ahead/) as string,
    })
    expect(await namesIn(folders.uploads)).toEqual(['hour'])
    expect(await read()).toBe('second')
  })
})

describe('the file of a backup', () => {
  it.each(['unavailable', 'deadline', 'overloaded'] as const)(
    'stays where the answer, %s, does not say what became of it',
    async (kind) => {
      await upload('b')
      stead = answering(kind)
      await expect(restore('b')).rejects.toMatchObject({ kind })
      expect(await claimed()).toHaveLength(1)
      stead = {}
      await restore('b')
      expect(await read()).toBe('first')
    },
  )

  it('goes also where that of a store before it cannot be settled', async () => {
    await sys.write(context, joinName(joinName(folders.restores, 'absent'), 'b.1'), bytes, { parents: true })
    await upload('b')
    await restore('b')
    expect(await claimed()).toHaveLength(1)
    const errors: unknown[] = []
    warned = (error) => void errors.push(error)
    restores.start()
    while ((await claimed()).length > 0 && errors.length < 5) await new Promise((resolve) => setTimeout(resolve, 20))
    expect(await claimed()).toEqual([])
    expect(errors[0]).toMatchObject({ kind: 'not_found' })
  })

  it.each(['conflict', 'denied', 'invalid'] as const)('goes where the answer is %s: it is never made', async (kind) => {
    await upload('b')
    stead = answering(kind)
    await expect(restore('b')).rejects.toMatchObject({ kind })
    expect(await claimed()).toEqual([])
  })

  it('stays among those that are known of as long as a member may need it: more are refused before', async () => {
    const made: KnownRestore[] = []
    stead = {
      restores: () => made.slice(-limits.restores_known_max),
      restore: async (_context, { id }: RestoreCommand) => {
        made.push({ id, index: made.length, isDone: true })
        return { kind: 'txn', result: { branch: 'then', results: [], revision: 1 } }
      },
    }
    let refused: unknown
    for (let i = 0; refused === undefined && i < limits.restores_known_max; i++) {
      await upload(`b${i}`)
      await restore(`b${i}`).catch((error: unknown) => (refused = error))
    }
    expect(refused).toMatchObject({ kind: 'overloaded' })
    expect(made.length).toBeGreaterThan(10)
    expect(await claimed()).toHaveLength(made.length)
  })
})
