/** The command line against a real node: what each verb prints, and with which code it exits. */
import { mkdir, readFile, readlink, stat, symlink, truncate, utimes, writeFile, chmod, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { runNine, startNode, temporaryFolder } from './run-nine.ts'
import type { NodeProcess } from './run-nine.ts'

let node: NodeProcess

beforeAll(async () => {
  node = await startNode()
}, 60_000)

afterAll(async () => {
  await node.kill()
})

describe('nine up', () => {
  it('keeps its token to its owner, in a file that holds nothing else', async () => {
    expect((await stat(node.ready.tokenFile)).mode & 0o777).toBe(0o600)
    expect(node.token).toMatch(/^nine_[A-Za-z0-9_-]{43}$/)
  })

  it('refuses a second process on its folder and names the first', async () => {
    const { code, stderr } = await runNine(['up', '--data', node.ready.data, '--http', '127.0.0.1:0', '--grpc', '127.0.0.1:0'])
    expect(code).toBe(exitCodeOf('unavailable'))
    expect(stderr).toContain(String(node.ready.pid))
  })

  it('refuses to listen beyond loopback without TLS', async () => {
    const folder = await temporaryFolder()
    const { code, stderr } = await runNine(['up', '--data', join(folder, 'data'), '--http', '0.0.0.0:0', '--grpc', '127.0.0.1:0'])
    expect(code).toBe(exitCodeOf('invalid'))
    expect(stderr).toContain('TLS')
  })

  it('stops on SIGTERM with code 0, says nothing on standard error, and starts again with its data', async () => {
    const first = await startNode()
    await first.ok(['write', '/data/kept', 'kept'])
    const ended = await first.stop()
    expect(ended.code).toBe(0)
    expect(ended.stderr).toBe('')
    const second = await startNode([], first.ready.data)
    expect(await second.ok(['cat', '/data/kept'])).toBe('kept')
    await second.kill()
    await rm(first.folder, { recursive: true })
  })
})

describe('files', () => {
  it('writes, reads, appends, lists and removes', async () => {
    await node.ok(['write', '-p', '/data/a/b/hello', 'hello '])
    await node.ok(['append', '/data/a/b/hello', 'world'])
    expect(await node.ok(['cat', '/data/a/b/hello'])).toBe('hello world')
    expect(await node.ok(['ls', '/data/a'])).toBe('b\n')
    expect(await node.ok(['ls', '-l', '/data/a/b'])).toMatch(/^-rw-r--r-- 2 \S+ +- 11 [A-Z][a-z]{2} [ \d]\d \d\d:\d\d hello\n$/)
    const json = JSON.parse(await node.ok(['--json', 'stat', '/data/a/b/hello'])) as Record<string, unknown>
    expect(json).toMatchObject({ path: '/data/a/b/hello', kind: 'file', size: 11, version: 2 })
    await node.ok(['rm', '-r', '/data/a'])
    expect((await node.nine(['ls', '/data/a'])).code).toBe(exitCodeOf('not_found'))
  })

  it('takes standard input of any size', async () => {
    const bytes = Buffer.alloc(9 * 1024 * 1024, 'abcdefghij')
    await node.ok(['write', '/data/big'], { input: bytes })
    expect(await node.ok(['cat', '/data/big'])).toBe(bytes.toString())
    expect(JSON.parse(await node.ok(['--json', 'stat', '/data/big']))).toMatchObject({ size: bytes.length, version: 1 })
  })

  it('draws a tree', async () => {
    await node.ok(['mkdir', '-p', '/data/t/one/two'])
    await node.ok(['write', '/data/t/one/file', ''])
    await node.ok(['ln', '-s', '../elsewhere', '/data/t/link'])
    expect(await node.ok(['tree', '/data/t'])).toBe(
      ['/data/t', '├── link -> ../elsewhere', '└── one', '    ├── file', '    └── two', '', '2 directories, 2 files', ''].join('\n'),
    )
  })

  it('compares and sets', async () => {
    await node.ok(['write', '--if-none', '/data/cas', '1'])
    const { qid } = JSON.parse(await node.ok(['--json', 'stat', '/data/cas'])) as { qid: { path: number; version: number } }
    await node.ok(['write', '--if-match', `${qid.path}.${qid.version}`, '/data/cas', '2'])
    expect((await node.nine(['write', '--if-match', `${qid.path}.${qid.version}`, '/data/cas', '3'])).code).toBe(exitCodeOf('conflict'))
    expect((await node.nine(['write', '--if-none', '/data/cas', '3'])).code).toBe(exitCodeOf('conflict'))
    expect(await node.ok(['cat', '/data/cas'])).toBe('2')
  })

  it('moves and copies like mv and cp', async () => {
    await node.ok(['write', '-p', '/data/m/from/x', 'x'])
    await node.ok(['mkdir', '/data/m/into'])
    await node.ok(['mv', '/data/m/from', '/data/m/into'])
    expect(await node.ok(['find', '/data/m', '--type', 'f'])).toBe('/data/m/into/from/x\n')
    await node.ok(['cp', '-r', '/data/m/into', '/data/m/copy'])
    expect(await node.ok(['find', '/data/m', '--name', 'x'])).toBe('/data/m/copy/from/x\n/data/m/into/from/x\n')
    expect((await node.nine(['cp', '/data/m/into', '/data/m/other'])).code).toBe(exitCodeOf('is_directory'))
    await node.ok(['chmod', '750', '/data/m/into'])
    await node.ok(['ln', '-s', 'from/x', '/data/m/into/link'])
    await node.ok(['cp', '-r', '/data/m/into', '/data/m/same'])
    const shown = async (path: string): Promise<unknown> => {
      const { mode, modifiedAt } = JSON.parse(await node.ok(['--json', 'stat', path])) as Record<string, unknown>
      return { mode, modifiedAt }
    }
    for (const name of ['', '/from', '/from/x', '/link'])
      expect(await shown(`/data/m/same${name}`)).toEqual(await shown(`/data/m/into${name}`))
  })

  it('searches', async () => {
    await node.ok(['write', '-p', '/data/g/one', 'first\nsecond line\n'])
    await node.ok(['write', '-p', '/data/g/two', 'SECOND\n'])
    expect(await node.ok(['grep', '-rn', 'sec', '/data/g'])).toBe('/data/g/one:2:second line\n')
    expect(await node.ok(['grep', '-ril', 'sec', '/data/g'])).toBe('/data/g/one\n/data/g/two\n')
    expect((await node.nine(['grep', '-r', 'third', '/data/g'])).code).toBe(1)
  })

  it('edits with the editor of the user, and keeps the text when somebody was faster', async () => {
    await node.ok(['write', '/data/edited', 'before'])
    const append = `sh -c 'printf " and after" >> "$1"' sh`
    await node.ok(['edit', '/data/edited'], { env: { EDITOR: append, VISUAL: append } })
    expect(await node.ok(['cat', '/data/edited'])).toBe('before and after')
    const meanwhile = `sh -c '${process.execPath} ${join(import.meta.dirname, '..', '..', 'dist', 'cli', 'nine.js')} write /data/edited faster; printf mine > "$1"' sh`
    const { code, stderr } = await node.nine(['edit', '/data/edited'], { env: { EDITOR: meanwhile, VISUAL: meanwhile } })
    expect(code).toBe(exitCodeOf('conflict'))
    const kept = /your text is in (\S+)/.exec(stderr)![1]!
    expect(await readFile(kept, 'utf8')).toBe('mine')
    expect(await node.ok(['cat', '/data/edited'])).toBe('faster')
    await rm(join(kept, '..'), { recursive: true })
  })

  it('watches from a position', async () => {
    await node.ok(['write', '-p', '/data/w/one', '1'])
    const { revision } = JSON.parse(await node.ok(['--json', 'stat', '/data/w/one'])) as { revision: number }
    await node.ok(['write', '/data/w/two', '2'])
    await node.ok(['rm', '/data/w/one'])
    const lines = (await node.ok(['watch', '-r', '/data/w', '--from', String(revision + 1), '-n', '2', '--json'])).trim().split('\n')
    expect(lines.map((line) => JSON.parse(line) as object)).toMatchObject([
      { type: 'create', path: '/data/w/two', revision: revision + 1 },
      { type: 'remove', path: '/data/w/one', revision: revision + 2 },
    ])
  })
})

describe('errors', () => {
  it.each([
    [['cat', '/data/none'], 'not_found'],
    [['cat', '/data'], 'is_directory'],
    [['mkdir', '/data'], 'exists'],
    [['write', `/data/${'n'.repeat(256)}`, 'x'], 'name_too_long'],
    [['write', '/data/x\u0001', 'x', '--ttl', 'soon'], 'invalid'],
    [['ls', '--at', 'yesterday', '/data'], 'invalid'],
  ] as const)('%j is %s', async (args, kind) => {
    const { code, stdout, stderr } = await node.nine(args)
    expect({ code, stdout }).toEqual({ code: exitCodeOf(kind), stdout: '' })
    expect(stderr).toContain(`[${kind}]`)
  })

  it('says how to reach a node that is not there', async () => {
    const { code, stderr } = await node.nine(['ls', '/'], { env: { NINE_ADDR: '127.0.0.1:1' } })
    expect(code).toBe(exitCodeOf('unavailable'))
    expect(stderr).toContain('127.0.0.1:1')
  })

  it('refuses a wrong token', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'token'), 'nine_wrongwrongwrongwrong')
    expect((await node.nine(['ls', '/', '--token-file', join(folder, 'token')])).code).toBe(exitCodeOf('unauthenticated'))
    expect((await node.nine(['ls', '/', '--token-file', join(folder, 'missing')])).code).toBe(exitCodeOf('unauthenticated'))
  })

  it('answers wrong usage with 2 and failures as JSON where asked', async () => {
    expect((await node.nine(['frobnicate'])).code).toBe(2)
    const { stderr } = await node.nine(['--json', 'cat', '/data/none'])
    expect(JSON.parse(stderr)).toMatchObject({ error: { kind: 'not_found', path: '/data/none', outcome: 'none' } })
  })
})

describe('trees', () => {
  it('imports, compares, exports, resumes', async () => {
    const folder = await temporaryFolder()
    const from = join(folder, 'from')
    await mkdir(join(from, 'sub', 'empty'), { recursive: true })
    await writeFile(join(from, 'small'), 'small')
    await writeFile(join(from, 'sub', 'naïve 日本 😀'), 'unicode')
    await writeFile(join(from, 'sub', 'run'), '#!/bin/sh\n')
    await chmod(join(from, 'sub', 'run'), 0o755)
    await writeFile(join(from, 'large'), Buffer.alloc(3 * 1024 * 1024 + 17, 'xyz'))
    await writeFile(join(from, 'zero'), '')
    await symlink('../outside', join(from, 'sub', 'link'))
    await utimes(join(from, 'small'), 1_000_000_000.123456, 1_000_000_000.123456)
    await utimes(join(from, 'sub'), 1_100_000_000, 1_100_000_000)

    // 3 MiB and 17 bytes, and 22 of the small ones: what is counted while many are under way adds up.
    expect(JSON.parse(await node.ok(['--json', 'import', from, '/data/tree']))).toMatchObject({
      files: 5,
      directories: 2,
      symlinks: 1,
      bytes: 3_145_745 + 22,
    })
    expect(await node.ok(['diff', from, '/data/tree'])).toMatch(/^equal: 8 entries/)
    expect(await node.ok(['import', from, '/data/tree'])).toMatch(/^imported 0 files, 0 directories, 0 symbolic links .*8 in place already/)

    const to = join(folder, 'to')
    expect(await node.ok(['export', '/data/tree', to])).toMatch(/^exported 5 files, 2 directories, 1 symbolic links/)
    expect(await node.ok(['diff', to, '/data/tree'])).toMatch(/^equal: 8 entries/)
    expect(await readlink(join(to, 'sub', 'link'))).toBe('../outside')
    expect((await stat(join(to, 'sub', 'run'))).mode & 0o777).toBe(0o755)
    expect(Math.floor((await stat(join(to, 'small'))).mtimeMs)).toBe(1_000_000_000_123)

    // An interrupted transfer: some there, one cut short. Both directions go on and end equal.
    await node.ok(['rm', '-r', '/data/tree/sub'])
    await node.ok(['write', '/data/tree/large', 'cut'])
    await truncate(join(to, 'large'), 5)
    expect((await node.nine(['diff', from, '/data/tree'])).code).toBe(1)
    await node.ok(['import', from, '/data/tree'])
    expect(await node.ok(['diff', from, '/data/tree'])).toMatch(/^equal/)
    await node.ok(['export', '/data/tree', to])
    expect(await node.ok(['diff', to, '/data/tree'])).toMatch(/^equal/)
    await rm(folder, { recursive: true })
  })

  it('shows what differs', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'same'), 'same')
    await writeFile(join(folder, 'other'), 'ours')
    await writeFile(join(folder, 'left'), '')
    await node.ok(['import', folder, '/data/differs'])
    const { mtime } = await stat(join(folder, 'other'))
    await writeFile(join(folder, 'other'), 'OURS')
    await utimes(join(folder, 'other'), mtime, mtime)
    await writeFile(join(folder, 'new'), '')
    await node.ok(['rm', '/data/differs/left'])
    await node.ok(['write', '/data/differs/right', ''])
    const { code, stdout } = await node.nine(['diff', folder, '/data/differs'])
    expect(code).toBe(1)
    const lines = stdout.trim().split('\n')
    expect(lines).toContain(`left: only in ${folder}`)
    expect(lines).toContain(`new: only in ${folder}`)
    expect(lines).toContain('right: only in /data/differs')
    expect(lines.some((line) => line.startsWith('other: ') && line.includes('contents differ'))).toBe(true)
    expect(lines.some((line) => line.startsWith('same'))).toBe(false)
    await rm(folder, { recursive: true })
  })
})

describe('namespaces', () => {
  it('saves binds of a user, and forgets them with unmount', async () => {
    await node.ok(['write', '-p', '/data/base/config', 'base'])
    await node.ok(['write', '-p', '/data/override/config', 'override'])
    await node.ok(['bind', '-b', '/data/override', '/data/base'])
    expect(await node.ok(['cat', '/data/base/config'])).toBe('override')
    expect(await node.ok(['ns'])).toContain('bind -b /data/override /data/base')
    await node.ok(['unmount', '/data/base'])
    expect(await node.ok(['cat', '/data/base/config'])).toBe('base')
  })

  it('binds in a shell for its life only', async () => {
    await node.ok(['write', '-p', '/data/shown/file', 'shown'])
    const script = ['mkdir /data/empty', 'bind /data/shown /data/empty', 'cd /data/empty', 'pwd', 'cat file', 'ls', ''].join('\n')
    expect(await node.ok(['shell'], { input: script })).toBe('/data/empty\nshownfile\n')
    expect(await node.ok(['ls', '/data/empty'])).toBe('')
  })

  it('gives others what rights say, and nothing else', async () => {
    await node.ok(['write', '-p', '/data/team/plan', 'plan'])
    await node.ok(['write', '/data/secret', 'secret'])
    const folder = await temporaryFolder()
    const token = join(folder, 'token')
    await writeFile(token, (await node.ok(['token', 'create', 'ann', '--group', 'dev'])).trim())
    const ann = (args: string[]) => node.nine([...args, '--token-file', token])
    expect((await ann(['cat', '/data/team/plan'])).code).toBe(exitCodeOf('denied'))
    await node.ok(['rights', '/data/team', 'group:dev=read,list'])
    expect((await ann(['cat', '/data/team/plan'])).stdout).toBe('plan')
    expect((await ann(['write', '/data/team/plan', 'mine'])).code).toBe(exitCodeOf('denied'))
    expect((await ann(['cat', '/data/secret'])).code).toBe(exitCodeOf('denied'))
    await node.ok(['rights', '/data/team', 'ann=all'])
    expect((await ann(['write', '/data/team/plan', 'mine'])).code).toBe(0)
    expect(JSON.parse(await node.ok(['--json', 'stat', '/data/team/plan']))).toMatchObject({ modifiedBy: 'ann' })
    expect((await ann(['write', '/usr/ann/notes', 'my own'])).code).toBe(0)
    await node.ok(['token', 'revoke', 'ann'])
    expect((await ann(['cat', '/data/team/plan'])).code).toBe(exitCodeOf('unauthenticated'))
    await rm(folder, { recursive: true })
  })
})
