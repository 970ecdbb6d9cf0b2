/** Other people's programs, 9P2000.L: diod's tools on a real node over an imported tree, compared with the tree they came from. */
import { createHash, randomBytes } from 'node:crypto'
import { lstat, mkdir, readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startNode, temporaryFolder } from '../e2e/run-nine.ts'
import type { NodeProcess } from '../e2e/run-nine.ts'
import { hasDiodTools, runTool } from './diod-tools.ts'
import type { Tool, ToolRun } from './diod-tools.ts'

const many = 20_000
/** More than a few messages, and no multiple of one. */
const big_bytes = 48 * 1024 * 1024 + 4711

if (!hasDiodTools) {
  it.skipIf(process.env['CI'] !== 'true')("diod's tools (skipped: there is no /usr/sbin/diodls; Debian has it as the package diod)", () => {
    expect(hasDiodTools).toBe(true)
  })
}

describe.skipIf(!hasDiodTools)("diod's tools", () => {
  let node: NodeProcess
  /** A node that asks for no token, since diodload can give none. */
  let open: NodeProcess
  let folder: string
  let token: string

  beforeAll(async () => {
    folder = await temporaryFolder()
    const socket = join(folder, 'socket')
    node = await startNode(['--9p', '127.0.0.1:0', '--9p-unix', socket])
    open = await startNode(['--9p', '127.0.0.1:0', '--9p-auth', 'none'])
    token = node.token.trim()
    await mkdir(join(folder, 'many'))
    for (let i = 0; i < many; i++) await writeFile(join(folder, 'many', `entry-${i}`), '')
    await mkdir(join(folder, 'odd', 'deep/er/and/deeper/still/one/more/level/and/then/some/seventeen/eighteen'), { recursive: true })
    await writeFile(join(folder, 'odd', 'deep/er/and/deeper/still/one/more/level/and/then/some/seventeen/eighteen/leaf'), 'leaf\n')
    await writeFile(join(folder, 'odd', 'größe und ☃'), 'snow\n')
    await writeFile(join(folder, 'odd', 'empty'), '')
    await writeFile(join(folder, 'odd', 'run'), '#!/bin/sh\n', { mode: 0o755 })
    await utimes(join(folder, 'odd', 'empty'), 1e9, 1e9)
    await symlink('empty', join(folder, 'odd', 'link'))
    await mkdir(join(folder, 'ctl'))
    await writeFile(join(folder, 'ctl', 'zero'), randomBytes(big_bytes))
    await writeFile(join(folder, 'ctl', 'null'), '')
    const modules = join(import.meta.dirname, '..', '..', 'node_modules')
    await node.ok(['import', join(modules, 'zod'), '/data/zod'])
    await node.ok(['import', join(folder, 'odd'), '/data/odd'])
    await node.ok(['import', join(folder, 'many'), '/data/many'])
    await node.ok(['import', join(folder, 'ctl'), '/data/ctl'])
  }, 300_000)

  afterAll(async () => {
    await node.kill()
    await open.kill()
    await rm(folder, { recursive: true })
  })

  /** A tool on the tree at `path` of the node. */
  function run(tool: Tool, path: string, ...args: string[]): Promise<ToolRun> {
    return runTool(tool, ['-s', node.ready['9p']!, '-a', `${token}@${path}`, ...args])
  }

  it('list the same names as the imported tree, directory by directory', async () => {
    const source = join(import.meta.dirname, '..', '..', 'node_modules', 'zod')
    const expected = await listed(source)
    expect(expected.size).toBeGreaterThan(10)
    const { code, text, stderr } = await run('diodls', '/data/zod', ...expected.keys())
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(sections(text)).toEqual(expected)
  })

  it('show kinds, modes, sizes and times of files as they are', async () => {
    const { code, text } = await run('diodls', '/data/odd', '-l')
    expect(code).toBe(0)
    const rows = new Map(text.split('\n').map((line) => [line.slice(line.indexOf(':') + 4), line]))
    for (const name of await readdir(join(folder, 'odd'))) {
      const { mode, size, mtimeMs } = await lstat(join(folder, 'odd', name))
      const row = rows.get(name) ?? expect.unreachable(`${name} is not in:\n${text}`)
      expect(row.slice(1, 10), name).toBe(permissions(mode))
      if (row[0] !== 'd') expect(row.split(/\s+/)[4], name).toBe(String(size))
      expect(row.slice(0, -name.length - 1).endsWith(timeText(mtimeMs)), row).toBe(true)
    }
    expect(rows.get('deep')?.[0]).toBe('d')
    expect(rows.get('empty')?.[0]).toBe('-')
  })

  it('read every file of the imported tree byte for byte', async () => {
    const source = join(import.meta.dirname, '..', '..', 'node_modules', 'zod')
    const files: string[] = []
    for (const [directory, names] of await listed(source)) {
      for (const name of names) if ((await lstat(join(source, directory, name))).isFile()) files.push(join(directory, name))
    }
    expect(files.length).toBeGreaterThan(100)
    const hash = createHash('sha256')
    for (const file of files) hash.update(await readFile(join(source, file)))
    const { code, digest, stderr } = await run('diodcat', '/data/zod', ...files)
    expect({ code, digest, stderr }).toEqual({ code: 0, digest: hash.digest('hex'), stderr: '' })
  })

  it('reach names of other alphabets and files deeper than one walk goes', async () => {
    const leaf = 'deep/er/and/deeper/still/one/more/level/and/then/some/seventeen/eighteen/leaf'
    expect(await run('diodcat', '/data/odd', 'größe und ☃', leaf)).toMatchObject({ code: 0, text: 'snow\nleaf\n' })
    expect(await run('diodcat', '/', `data/odd/./deep/../${leaf}`)).toMatchObject({ code: 0, text: 'leaf\n' })
  })

  it.each([4_096, 65_536, 1_048_576])('read a big file byte for byte in messages of %i', async (msize) => {
    const expected = createHash('sha256').update(await readFile(join(folder, 'ctl', 'zero')))
    const { code, bytes, digest } = await run('diodcat', '/data', '-m', String(msize), 'ctl/zero')
    expect({ code, bytes, digest }).toEqual({ code: 0, bytes: big_bytes, digest: expected.digest('hex') })
  })

  it('list 20,000 entries, each once', async () => {
    const { code, text } = await run('diodls', '/data/many')
    const names = text.split('\n').slice(0, -1)
    expect({ code, count: names.length, different: new Set(names).size }).toEqual({ code: 0, count: many, different: many })
    expect(names.sort()).toEqual((await readdir(join(folder, 'many'))).sort())
  })

  it('are told what is not there, what is no file and who is nobody', async () => {
    expect(await run('diodcat', '/data/odd', 'missing')).toMatchObject({ code: 1, bytes: 0, stderr: said(/No such file or directory/) })
    expect(await run('diodls', '/data/odd', 'missing')).toMatchObject({ code: 1, stderr: said(/No such file or directory/) })
    expect(await run('diodcat', '/data/odd', 'empty/below')).toMatchObject({ code: 1, stderr: said(/No such file or directory/) })
    expect(await run('diodcat', '/data/odd', 'deep')).toMatchObject({ code: 1, stderr: said(/Is a directory/) })
    expect(await run('diodcat', '/data/odd', 'link')).toMatchObject({ code: 1, stderr: said(/Too many levels of symbolic links/) })
    expect(await run('diodls', '/data/missing')).toMatchObject({ code: 1, stderr: said(/No such file or directory/) })
    const nobody = (aname: string): Promise<ToolRun> => runTool('diodls', ['-s', node.ready['9p']!, '-a', aname])
    for (const aname of ['/data/odd', 'nine_wrong@/data/odd', '@/data/odd', `${token.slice(0, -1)}@/data/odd`]) {
      expect(await nobody(aname)).toMatchObject({ code: 1, text: '', stderr: said(/Operation not permitted/) })
    }
  })

  it('see as much as their token may', async () => {
    const ann = (await node.ok(['token', 'create', 'ann'])).trim()
    await node.ok(['rights', '/data/odd', 'ann=read,list'])
    const asAnn = (tool: Tool, path: string, ...args: string[]): Promise<ToolRun> =>
      runTool(tool, ['-s', node.ready['9p']!, '-a', `${ann}@${path}`, ...args])
    expect(await asAnn('diodls', '/data/odd')).toMatchObject({ code: 0, text: said(/^empty$/m) })
    expect(await asAnn('diodcat', '/data/odd', 'run')).toMatchObject({ code: 0, text: '#!/bin/sh\n' })
    expect(await asAnn('diodcat', '/data/ctl', 'zero')).toMatchObject({ code: 1, bytes: 0, stderr: said(/Permission denied/) })
    expect(await asAnn('diodls', '/data/many')).toMatchObject({ code: 1, bytes: 0, stderr: said(/Permission denied/) })
    await node.ok(['token', 'revoke', 'ann'])
    expect(await asAnn('diodls', '/data/odd')).toMatchObject({ code: 1, bytes: 0, stderr: said(/Operation not permitted/) })
  })

  it('come in by the Unix socket without a token', async () => {
    const args = ['-s', node.ready['9pUnix']!, '-a', '/data/odd']
    expect(await runTool('diodcat', [...args, 'run'])).toMatchObject({ code: 0, text: '#!/bin/sh\n' })
  })

  it('copy from one file to another in sixteen threads, and ask for attributes', async () => {
    await open.ok(['import', join(folder, 'ctl'), '/data/ctl'])
    await open.ok(['bind', '/data/ctl', '/ctl'])
    for (const load of [[], ['-g']]) {
      const { code, text, stderr } = await runTool('diodload', ['-s', open.ready['9p']!, '-r', '2', ...load])
      expect(code).toBe(0)
      const [, operations] = /^diodload: (\d+) ops\/s/m.exec(text + stderr) ?? expect.unreachable(text + stderr)
      expect(Number(operations)).toBeGreaterThan(0)
      expect((text + stderr).trim().split('\n')).toHaveLength(1)
    }
  })
})

function said(pattern: RegExp): string {
  return expect.stringMatching(pattern) as string
}

/** Names of each directory below `root`, by its path from there, sorted. */
async function listed(root: string, directory = '.', into = new Map<string, string[]>()): Promise<Map<string, string[]>> {
  const entries = await readdir(join(root, directory), { withFileTypes: true })
  into.set(directory, entries.map((entry) => entry.name).sort())
  for (const entry of entries) if (entry.isDirectory()) await listed(root, join(directory, entry.name), into)
  return into
}

/** What diodls says of many directories: `NAME:`, its entries, an empty line. */
function sections(text: string): Map<string, string[]> {
  const blocks = text
    .trimEnd()
    .split('\n\n')
    .map((block) => block.split('\n'))
  return new Map(blocks.map(([head, ...names]) => [head!.slice(0, -1), names.sort()]))
}

function permissions(mode: number): string {
  const letters = 'rwxrwxrwx'
  return [...letters].map((letter, bit) => ((mode >> (8 - bit)) & 1 ? letter : '-')).join('')
}

/** `Nov  7 14:42`, in UTC. */
function timeText(millis: number): string {
  const [, day, month, , time] = new Date(millis).toUTCString().split(' ')
  return `${month} ${String(Number(day)).padStart(2)} ${time!.slice(0, 5)}`
}
