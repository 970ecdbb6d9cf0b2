/** What the tree does when its process is killed or its files are damaged. */
import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { rootIno } from '../../storage/model.ts'
import { openEnvironment, type Environment } from '../../storage/tree/environment.ts'
import { rowKey, type Rows } from '../../storage/tree/rows.ts'
import { testFolders } from './folders.ts'
import { inline, record, revisionOf } from './tree-model.ts'

const folder = testFolders()
const open: Environment[] = []

afterEach(async () => {
  for (const environment of open.splice(0)) await environment.close()
})

async function openAt(dir: string): Promise<Environment> {
  const environment = await openEnvironment({ dir: join(dir, 'tree'), historyDir: join(dir, 'history') })
  open.push(environment)
  return environment
}

describe('a killed process', () => {
  it('leaves the last checkpoint that was done, whole, or the one that was under way', { timeout: 120_000 }, async () => {
    const dir = folder()
    for (let round = 0; round < 8; round++) {
      const { begun, done } = await runAndKill(dir, round)
      const environment = await openAt(dir)
      const tree = await environment.tree(1, { owner: 'ann' })
      const { revision, appliedIndex, meta } = tree.meta()
      expect([begun, done]).toContain(revision)
      expect(appliedIndex).toBe(revision)
      if (revision > 0) expect(meta.map(([key, value]) => [key, Buffer.from(value).toString()])).toEqual([['at', String(revision)]])
      const entries = tree.newest.children(rootIno, '', 1000)
      expect(entries).toHaveLength(revision === 0 ? 0 : 400)
      for (const { ino, name } of entries) {
        const node = tree.newest.node(ino)!
        expect(node.since).toBeGreaterThan(revision - 400)
        expect(`f${node.since % 400}`).toBe(name)
        expect(node.content.kind === 'inline' && Buffer.from(node.content.bytes).toString()).toBe(String(node.since).repeat(200))
      }
      expect(tree.history.last).toBe(revision)
      if (revision > 0) expect(tree.history.read(revision, 1)[0]!.revision).toBe(revision)
      await environment.close()
    }
  })
})

/** Kill the child at its n-th checkpoint, at once after it began. */
function runAndKill(dir: string, round: number): Promise<{ begun: number; done: number }> {
  const child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, 'tree-crash-child.ts'), dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: join(import.meta.dirname, '..', '..'),
  })
  let begun = 0
  let done = 0
  let begins = 0
  let rest = ''
  child.stdout.on('data', (data: Buffer) => {
    const lines = (rest + data.toString()).split('\n')
    rest = lines.pop()!
    for (const line of lines) {
      const revision = Number(line.split(' ')[1])
      if (line.startsWith('done')) done = revision
      else {
        begun = revision
        if (++begins === 2 + (round % 3)) child.kill('SIGKILL')
      }
    }
  })
  return new Promise((resolve) => child.on('close', () => resolve({ begun, done })))
}

describe('a damaged database', () => {
  async function filled(): Promise<{ dir: string; environment: Environment }> {
    const dir = folder()
    const environment = await openAt(dir)
    const tree = await environment.tree(1, { owner: 'ann' })
    const transaction = tree.begin(1)
    for (const name of ['a', 'b']) {
      const ino = transaction.nextIno()
      transaction.put(record({ ino, since: 1, name, content: inline(name.repeat(2000)) }))
      transaction.link(rootIno, name, ino)
    }
    tree.history.append(revisionOf(1, transaction.commit()))
    await tree.checkpoint({ appliedIndex: 1, revision: 1, meta: [['k', Buffer.from('v')]] })
    return { dir, environment }
  }

  async function flip(environment: Environment, rows: Rows, key: ReturnType<typeof rowKey>): Promise<void> {
    const value = Buffer.from(rows.getBinary(key)!)
    value[value.length >> 1]! ^= 4
    await environment.write(() => void rows.put(key, value))
    await environment.close()
  }

  it('answers corrupt for a flipped bit in a record, an entry or a value, and serves the rest', async () => {
    const cases = [
      { table: 'nodes', key: rowKey(1, 2) },
      { table: 'entries', key: rowKey(1, rootIno, -1, 'a') },
      { table: 'contents', key: rowKey(1, 2, 1) },
    ] as const
    for (const { table, key } of cases) {
      const { dir, environment } = await filled()
      await flip(environment, environment.tables[table], key)
      const tree = await (await openAt(dir)).tree(1, { owner: 'ann' })
      const read = (name: string): unknown => {
        const node = tree.newest.node(tree.newest.child(rootIno, name)!)!
        return node.content.kind === 'inline' && Buffer.from(node.content.bytes).toString()
      }
      expect(() => read('a')).toThrow(expect.objectContaining({ kind: 'corrupt' }))
      expect(read('b')).toBe('b'.repeat(2000))
      if (table === 'entries') expect(() => tree.newest.children(rootIno, '', 10)).toThrow(expect.objectContaining({ kind: 'corrupt' }))
    }
  })

  it('does not take one row for another', async () => {
    const { dir, environment } = await filled()
    const { nodes } = environment.tables
    const other = Buffer.from(nodes.getBinary(rowKey(1, 3))!)
    await environment.write(() => void nodes.put(rowKey(1, 2), other))
    await environment.close()
    const tree = await (await openAt(dir)).tree(1, { owner: 'ann' })
    expect(() => tree.newest.node(2)).toThrow(expect.objectContaining({ kind: 'corrupt' }))
  })

  it('does not open a store whose own state is damaged', async () => {
    for (const text of ['', '.k']) {
      const { dir, environment } = await filled()
      await flip(environment, environment.tables.meta, rowKey(1, -1, -1, text))
      const again = await openAt(dir)
      await expect(again.tree(1, { owner: 'ann' })).rejects.toMatchObject({ kind: 'corrupt' })
    }
  })

  it('that is no database is corrupt', async () => {
    const { dir, environment } = await filled()
    await environment.close()
    writeFileSync(join(dir, 'tree', 'tree.mdb'), Buffer.alloc(65536, 0x55))
    await expect(openAt(dir)).rejects.toMatchObject({ kind: 'corrupt' })
  })
})

describe('a database cut short', () => {
  it('is corrupt where it is missing something, and never ends the process', async () => {
    const dir = folder()
    const environment = await openAt(dir)
    const tree = await environment.tree(1, { owner: 'ann' })
    const transaction = tree.begin(1)
    for (let i = 0; i < 500; i++) {
      const ino = transaction.nextIno()
      transaction.put(record({ ino, since: 1, name: `n${i}`, content: inline('x'.repeat(3000)) }))
      transaction.link(rootIno, `n${i}`, ino)
    }
    tree.history.append(revisionOf(1, transaction.commit()))
    await tree.checkpoint({ appliedIndex: 1, revision: 1, meta: [] })
    await environment.close()
    const file = join(dir, 'tree', 'tree.mdb')
    const whole = readFileSync(file)
    let damaged = 0
    for (const keep of [0.95, 0.8, 0.5, 0.2, 0.01]) {
      writeFileSync(file, whole.subarray(0, Math.max(8192, Math.floor(keep * whole.length))))
      try {
        const again = await (await openAt(dir)).tree(1, { owner: 'ann' })
        for (let i = 0; i < 500; i++) {
          try {
            const node = again.newest.node(again.newest.child(rootIno, `n${i}`)!)!
            expect(node.content.kind === 'inline' && node.content.bytes).toEqual(Buffer.from('x'.repeat(3000)))
          } catch (error) {
            expect(error).toMatchObject({ kind: 'corrupt' })
            damaged++
          }
        }
      } catch (error) {
        expect(error).toMatchObject({ kind: 'corrupt' })
        damaged++
      }
      for (const opened of open.splice(0)) await opened.close()
    }
    expect(damaged).toBeGreaterThan(4)
  })
})

describe('collection', () => {
  it('takes away removed trees, and their tombs, once history has passed them, and nothing else', async () => {
    const dir = folder()
    const environment = await openEnvironment({ dir: join(dir, 'tree'), historyDir: join(dir, 'history') })
    open.push(environment)
    const tree = await environment.tree(1, { owner: 'ann', historySegmentBytes: 1 })
    let revision = 0
    const change = (work: (transaction: ReturnType<typeof tree.begin>) => void): void => {
      const transaction = tree.begin(++revision)
      work(transaction)
      tree.history.append(revisionOf(revision, transaction.commit()))
    }
    const count = (rows: Rows): number => [...rows.getRange({ start: rowKey(1), end: rowKey(2), limit: 1e6 })].length
    change((t) => {
      const top = t.nextIno()
      t.put(record({ ino: top, since: 1, kind: 'directory', name: 'top' }))
      t.link(rootIno, 'top', top)
      for (let i = 0; i < 1500; i++) {
        const ino = t.nextIno()
        t.put(record({ ino, since: 1, kind: i < 3 ? 'directory' : 'file', parent: top, name: `n${i}`, content: inline('x'.repeat(600)) }))
        t.link(top, `n${i}`, ino)
      }
    })
    // One child is moved out before: it stays.
    change((t) => {
      t.unlink(2, 'n7')
      t.put({ ...t.node(10)!, since: 2, parent: rootIno, name: 'kept' })
      t.link(rootIno, 'kept', 10)
    })
    await tree.checkpoint({ appliedIndex: revision, revision, meta: [] })
    change((t) => t.unlink(rootIno, 'top'))
    await tree.checkpoint({ appliedIndex: revision, revision, meta: [] })
    expect(await tree.collect(1e6)).toBe(0)
    expect(tree.at(2).children(rootIno, '', 10).map((e) => e.name)).toEqual(['kept', 'top']) // prettier-ignore
    change((t) => t.put({ ...t.node(10)!, since: 4 }))
    await tree.checkpoint({ appliedIndex: revision, revision, meta: [] })
    await tree.history.compact({ bytesMax: 0, olderThan: 0 })
    expect(tree.history.floor).toBeGreaterThanOrEqual(3)
    while ((await tree.collect(100)) > 0);
    expect(count(environment.tables.nodes)).toBe(2)
    expect(count(environment.tables.entries)).toBe(1)
    expect([count(environment.tables.tombs), count(environment.tables.fallen), count(environment.tables.contents)]).toEqual([0, 0, 1])
    expect(tree.newest.children(rootIno, '', 10).map((e) => e.name)).toEqual(['kept']) // prettier-ignore
  })
})
