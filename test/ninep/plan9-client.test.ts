/** An independent 9P2000 client (9fans.net/go, see go/) at a real node; what it finds and makes is compared over HTTP and the command line. */
import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { lstat, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startNode } from '../e2e/run-nine.ts'
import type { NodeProcess } from '../e2e/run-nine.ts'

const hasGo = spawnSync('go', ['version'], { stdio: 'ignore' }).status === 0
const execute = promisify(execFile)

interface Entry {
  readonly path: string
  readonly directory: boolean
  readonly mode: number
  readonly length: number
  readonly mtime: number
  readonly uid: string
  readonly qid: number
  readonly version: number
  readonly sha256?: string
}

/** Of `nine find --json`. */
interface Listed {
  readonly path: string
  readonly kind: string
  readonly mode: number
  readonly size: number
  readonly owner: string
  readonly version: number
}

if (!hasGo) {
  it.skipIf(process.env['CI'] !== 'true')('an independent 9P2000 client (skipped: there is no go on PATH)', () => {
    expect(hasGo).toBe(true)
  })
}

describe.skipIf(!hasGo)('an independent 9P2000 client', () => {
  let node: NodeProcess
  let folder: string
  let program: string

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ninefold-go-'))
    program = join(folder, 'client')
    await execute('go', ['build', '-o', program, '.'], { cwd: join(import.meta.dirname, 'go') })
    node = await startNode(['--9p', '127.0.0.1:0', '--9p-unix', join(folder, 'socket')])
  }, 300_000)

  afterAll(async () => {
    await node.kill()
    await rm(folder, { recursive: true })
  })

  interface Given {
    readonly auth?: 'afid' | 'aname' | 'none'
    readonly token?: string
    readonly more?: readonly string[]
  }

  async function run<T>(command: string, aname: string, { auth = 'afid', token = node.token.trim(), more = [] }: Given = {}): Promise<T> {
    const where = ['-address', node.ready['9p']!, '-aname', aname, '-auth', auth, '-token', token]
    const { stdout } = await execute(program, [...where, ...more, command], { maxBuffer: 2 ** 26 })
    return JSON.parse(stdout) as T
  }

  async function list(path: string): Promise<Listed[]> {
    const lines = (await node.ok(['find', '--json', path])).trim().split('\n')
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Listed)
  }

  async function text(path: string): Promise<string> {
    const url = `http://${node.ready.http}/v1/fs${path.split('/').map(encodeURIComponent).join('/')}`
    const response = await fetch(url, { headers: { authorization: `Bearer ${node.token.trim()}` } })
    if (!response.ok) throw new Error(`${path}: ${response.status}`)
    return response.text()
  }

  it('gets in with a token, by the auth file or before the path, and not without', async () => {
    const found = { root: '/', directory: true }
    expect(await run('attach', '/data')).toEqual(found)
    expect(await run('attach', '/data', { auth: 'aname' })).toEqual(found)
    expect(await run('attach', '')).toEqual(found)
    const nobody = { refused: 'authentication failed' }
    expect(await run('attach', '/data', { auth: 'none' })).toEqual(nobody)
    expect(await run('attach', '/data', { token: 'nine_wrong' })).toEqual(nobody)
    expect(await run('attach', '/data', { auth: 'aname', token: 'nine_wrong' })).toEqual(nobody)
    expect(await run('attach', '/data/missing')).toEqual({ refused: 'file does not exist' })
    const socket = ['-network', 'unix', '-address', node.ready['9pUnix']!]
    expect(await run('attach', '/data', { auth: 'none', more: socket })).toEqual(found)
  })

  it('has the rights of its token, whatever user name it gives', async () => {
    const ann = (await node.ok(['token', 'create', 'ann'])).trim()
    await node.ok(['mkdir', '/data/anns', '/data/others'])
    await node.ok(['rights', '/data/anns', 'ann=read,list'])
    const owner = ['-user', (JSON.parse(await node.ok(['stat', '--json', '/data/anns'])) as Listed).owner]
    expect(await run('tree', '/data/anns', { token: ann, more: owner })).toEqual([])
    expect(await run('attach', '/data/others', { token: ann, more: owner })).toEqual({ refused: 'permission denied' })
    await expect(run('changes', '/data/anns', { token: ann, more: owner })).rejects.toThrow('step 0: creating made: permission denied')
  })

  it('reads an imported tree: names, stats and every byte', async () => {
    const source = join(import.meta.dirname, '..', '..', 'node_modules', 'zod')
    await node.ok(['import', source, '/data/zod'])
    const entries = await run<Entry[]>('tree', '/data/zod')
    const listed = await list('/data/zod')
    expect(entries.length).toBeGreaterThan(500)
    expect(entries.map(({ path }) => path).sort()).toEqual(listed.map(({ path }) => path.slice('/data/zod/'.length)).sort())
    expect(new Set(entries.map(({ qid }) => qid)).size).toBe(entries.length)
    const byPath = new Map(listed.map((stat) => [stat.path, stat]))
    for (const entry of entries) {
      const { kind, owner, version } = byPath.get(`/data/zod/${entry.path}`)!
      const local = await lstat(join(source, entry.path))
      expect(entry).toMatchObject({ directory: kind === 'directory', uid: owner, version, mode: local.mode & 0o777 })
      if (!entry.directory) {
        const sha256 = createHash('sha256').update(await readFile(join(source, entry.path)))
        expect(entry).toMatchObject({ length: local.size, mtime: Math.floor(local.mtimeMs / 1000), sha256: sha256.digest('hex') })
      }
    }
  })

  it('makes, writes, changes, renames and removes; others see the tree it meant', async () => {
    await node.ok(['mkdir', '/data/changes'])
    interface Dir {
      readonly [field: string]: unknown
    }
    const found = await run<{ refused: Record<string, string>; read: Record<string, string>; stats: Record<string, Dir> }>(
      'changes',
      '/data/changes',
    )
    // The client has its own words for a walk that ended early.
    expect(found.refused).toEqual({
      'renamed away': "file 'made/before' not found",
      'removed on close': "file 'made/temporary' not found",
      'remove of a full directory': 'directory is not empty',
      'open of nothing': "file 'made/missing' not found",
      'walk through a file': "file 'made/file/below' not found",
      'create of what exists': 'file already exists',
      'directory to write': 'Is a directory',
      'create of ..': 'Invalid argument',
      'write of a file open to read': 'Invalid argument',
      'rename onto another': 'file already exists',
      'change of owner': 'permission denied',
    })
    expect(found.read).toEqual({ deep: 'at the bottom' })
    const { owner } = JSON.parse(await node.ok(['stat', '--json', '/data/changes'])) as Listed
    const directory = 0x8000_0000
    expect(found.stats['made']).toMatchObject({ Name: 'made', Length: 0, Mode: directory + 0o755, Uid: owner, Gid: owner, Muid: owner })
    expect(found.stats['made/changed']).toMatchObject({ Name: 'changed', Length: 4, Mode: 0o640, Mtime: 1_000_000_000, Uid: owner })
    expect(found.stats['made/empty']).toMatchObject({ Length: 0, Mode: 0o444 })
    expect(found.stats['made/inner/größe ☃']).toMatchObject({ Name: 'größe ☃', Length: 4, Mode: 0o600 })
    expect(found.stats['made/log']).toMatchObject({ Length: 14 })
    const left = await list('/data/changes')
    const levels = Array.from({ length: 41 }, (_, depth) =>
      ['made/deep', ...Array.from({ length: depth }, (_, i) => `level${i}`)].join('/'),
    )
    const files = { after: 'moved!', changed: '0123', empty: '', file: 'anew', log: 'one\ntwo\nthree\n', 'within/größe ☃': 'snow' }
    const made = ['made', 'made/within', ...Object.keys(files).map((name) => `made/${name}`), ...levels]
    expect(left.map(({ path }) => path.slice('/data/changes/'.length)).sort()).toEqual(made.sort())
    for (const [name, content] of Object.entries(files)) expect(await text(`/data/changes/made/${name}`), name).toBe(content)
    expect(await text(`/data/changes/${levels[40]}`)).toBe('at the bottom')
  })

  it('works in 64 goroutines over one connection', async () => {
    await node.ok(['mkdir', '/data/concurrent'])
    const found = await run<{ kept: number; lines: number }>('concurrent', '/data/concurrent', { auth: 'aname' })
    expect(found).toEqual({ kept: 640, lines: 1280 })
    const left = (await list('/data/concurrent')).map(({ path }) => path.slice('/data/concurrent/'.length))
    const names = Array.from({ length: 64 }, (_, worker) => Array.from({ length: 20 }, (_, file) => `file-${worker}-${file}`)).flat()
    const kept = names.filter((name) => Number(name.split('-')[2]) % 2 === 0)
    expect(left.sort()).toEqual([...kept, 'shared'].sort())
    expect((await text('/data/concurrent/shared')).trim().split('\n').sort()).toEqual(names.sort())
    for (const name of kept.slice(0, 50)) {
      expect(await text(`/data/concurrent/${name}`)).toBe(`${name}\n`.repeat(1 + Number(name.split('-')[2]) * 200))
    }
  })
})
