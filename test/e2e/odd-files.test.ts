/** Names and folders of this machine that are hard to carry, and what the command says when the machine refuses. */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { lutimes, mkdir, readdir, readFile, readlink, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { ninePath, runNine, startNode, temporaryFolder } from './run-nine.ts'
import type { NodeProcess } from './run-nine.ts'

let node: NodeProcess
let folder: string

beforeAll(async () => {
  node = await startNode()
  folder = await temporaryFolder()
}, 60_000)

afterAll(async () => {
  await node.kill()
  await rm(folder, { recursive: true })
})

describe('export', () => {
  it('carries names of 255 bytes and all that a name may hold, there and back', async () => {
    const from = join(folder, 'odd')
    await mkdir(from)
    const longest = `${'é'.repeat(127)}x`
    expect(Buffer.byteLength(longest)).toBe(255)
    const names = [longest, '-n', 'sp ace', 'new\nline', 'tab\t', 'back\\slash', 'q"uote', '%2e', 'a?b#c', '...', '*', '日本 😀']
    for (const name of names) await writeFile(join(from, name), name)
    await symlink('nowhere', join(from, 'l'.repeat(255)))
    await node.ok(['import', from, '/data/odd'])
    const to = join(folder, 'odd-copy')
    await node.ok(['export', '/data/odd', to])
    expect((await readdir(to)).sort()).toEqual((await readdir(from)).sort())
    expect(await node.ok(['diff', to, '/data/odd'])).toMatch(/^equal: 13 entries/)
  })

  it('does not mistake a file for a part of another, and removes what an interrupted export left', async () => {
    const from = join(folder, 'partial')
    await mkdir(from)
    for (let i = 0; i < 20; i++) {
      await writeFile(join(from, `f${i}`), 'short')
      await writeFile(join(from, `f${i}.nine-partial`), 'a file of its own')
    }
    await node.ok(['import', from, '/data/partial'])
    const to = join(folder, 'partial-copy')
    const left = join(to, '.nine-partial-abcdefghij0123456789klmno')
    await mkdir(to)
    await writeFile(left, 'cut sho')
    await node.ok(['export', '/data/partial', to])
    expect(existsSync(left)).toBe(false)
    expect(await readFile(join(to, 'f7.nine-partial'), 'utf8')).toBe('a file of its own')
    expect(await node.ok(['diff', to, '/data/partial'])).toMatch(/^equal: 40 entries/)
  })

  it('says with the right kind what this machine refuses', async () => {
    await node.ok(['write', '/data/one', '1'])
    await node.ok(['mkdir', '/data/some'])
    const { code, stderr } = await node.nine(['export', '/data/some', join(folder, 'x'.repeat(256))])
    expect(stderr).toContain('[name_too_long]')
    expect(code).toBe(exitCodeOf('name_too_long'))
  })
})

describe('import', () => {
  it('compares and brings in folders alone, and waits for no pipe', async () => {
    const pipe = join(folder, 'pipe')
    spawnSync('mkfifo', [pipe])
    for (const verb of ['diff', 'import']) {
      for (const [dir, kind, said] of [
        [pipe, 'not_directory', `${pipe} is no folder`],
        [join(folder, 'none'), 'not_found', `no such folder: ${join(folder, 'none')}`],
      ] as const) {
        const { code, stderr } = await node.nine([verb, dir, '/data'])
        expect({ code, stderr }).toEqual({ code: exitCodeOf(kind), stderr: `nine: ${said} [${kind}]\n` })
      }
    }
    const { code, stderr } = await node.nine(['--tls-ca', folder, 'ls'])
    expect(stderr).toMatch(/^nine: cannot read the authority .* \(--tls-ca, NINE_TLS_CA\): EISDIR/)
    expect(code).toBe(exitCodeOf('invalid'))
  })

  it('leaves out what a tree of the namespace cannot hold, says so, and brings all else', async () => {
    const from = join(folder, 'beyond')
    const deep = Array.from({ length: 5 }, () => 'd'.repeat(250)).join('/')
    await mkdir(join(from, deep), { recursive: true })
    await writeFile(join(from, 'z-last'), 'last')
    await writeFile(join(from, 'early'), 'early')
    await utimes(join(from, 'early'), new Date(-5000), new Date(-5000))
    await symlink(Buffer.from([0x74, 0xff]), join(from, 'odd-target'))
    await symlink('early', join(from, 'late'))
    await lutimes(join(from, 'late'), 10_000_000_000, 10_000_000_000)
    const { code, stdout, stderr } = await node.nine(['import', from, '/data/beyond'])
    expect(stderr).toBe('')
    expect(code).toBe(1)
    const said = stdout.trim().split('\n')
    expect(said).toHaveLength(5)
    expect(said).toContainEqual(expect.stringMatching(/^left out: d.*: its path would have more than 1024 bytes$/))
    expect(said).toContain('left out: early: its time, which no stat of the namespace can hold, for 1970-01-01')
    expect(said).toContain('left out: late: its time, which no stat of the namespace can hold, for 2255-06-05')
    expect(said).toContain('left out: odd-target: its target is not UTF-8')
    expect(await node.ok(['cat', '/data/beyond/early'])).toBe('early')
    expect(await node.ok(['cat', '/data/beyond/z-last'])).toBe('last')
    const differing = await node.nine(['diff', from, '/data/beyond'])
    expect(differing.code).toBe(1)
    for (const name of ['early', 'late', 'odd-target']) expect(differing.stdout).toMatch(new RegExp(`^${name}: cannot be compared: `, 'm'))
    const to = join(folder, 'beyond-copy')
    await node.ok(['export', '/data/beyond', to])
    expect(await readlink(join(to, 'late'))).toBe('early')
  })
})

describe('nine up', () => {
  it('refuses names that are no one name of a path, and a certificate that is none', async () => {
    const up = ['up', '--data', join(folder, 'refused'), '--http', '127.0.0.1:0', '--grpc', '127.0.0.1:0']
    const pem = join(folder, 'no.pem')
    await writeFile(pem, 'no certificate')
    const wrong = [
      ['--name', 'a/b'],
      ['--name', ''],
      ['--name', '..'],
      ['--owner', 'a/b'],
      ['--tls-cert', pem, '--tls-key', pem],
    ]
    for (const flags of wrong) {
      const { code, stdout, stderr } = await runNine([...up, ...flags])
      expect(stdout).toBe('')
      expect(stderr).toMatch(/^nine: .*\[invalid\]\n$/)
      expect(code).toBe(exitCodeOf('invalid'))
    }
  })

  it('refuses a folder where none can be made', () => {
    const up = ['up', '--data', '/proc/nowhere/data', '--http', '127.0.0.1:0', '--grpc', '127.0.0.1:0']
    const { status, stderr } = spawnSync(process.execPath, [ninePath, ...up], { encoding: 'utf8', timeout: 20_000 })
    expect(stderr).toMatch(/^nine: cannot use .*\[read_only\]\n$/)
    expect(status).toBe(exitCodeOf('read_only'))
  })

  it('prints commands that a shell takes as they stand, whatever the folder is called', async () => {
    const up = ['up', '--data', join(folder, "it's a folder"), '--http', '127.0.0.1:0', '--grpc', '127.0.0.1:0']
    const child = node.start(up)
    const banner = await new Promise<string>((resolve) => {
      let text = ''
      child.stdout!.setEncoding('utf8').on('data', (piece: string) => {
        text += piece
        if (text.includes('Ctrl-C')) resolve(text)
      })
    })
    const curl = banner.split('\n').find((line) => line.includes('curl'))!
    const { stdout } = spawnSync('sh', ['-c', curl.trim()], { encoding: 'utf8' })
    expect(stdout).toContain('"upSince"')
    child.kill()
    await once(child, 'exit')
  })

  it('ends when its ready file cannot be written, and lets its folder go', async () => {
    const data = join(folder, 'unready')
    const up = ['up', '--data', data, '--http', '127.0.0.1:0', '--grpc', '127.0.0.1:0']
    const { code, stderr } = await runNine([...up, '--ready-file', join(folder, 'nowhere', 'ready.json')])
    expect(stderr).toMatch(/ready\.json.*\[not_found\]/)
    expect(code).toBe(exitCodeOf('not_found'))
    const again = await startNode([], data)
    await again.kill()
  })
})
