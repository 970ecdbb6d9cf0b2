/** Names and folders of this machine that are hard to carry, and what the command says when the machine refuses. */
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { runNine, startNode, temporaryFolder } from './run-nine.ts'
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

describe('nine up', () => {
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
