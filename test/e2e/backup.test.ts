/** nine backup and nine restore: a store of a running node to a file, and a node on the folder that was made of it. */
import { execFileSync } from 'node:child_process'
import { readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { runNine, startNode, temporaryFolder } from './run-nine.ts'
import type { Finished, NodeProcess } from './run-nine.ts'

let node: NodeProcess
let folder: string

beforeAll(async () => {
  folder = await temporaryFolder()
  node = await startNode(['--9p-unix', join(folder, 'nine.sock')])
}, 60_000)

afterAll(async () => {
  await node.kill()
  await rm(folder, { recursive: true, force: true })
})

describe('nine backup', () => {
  it('is restored by nine restore into a folder that a node serves: large values, rights, versions', { timeout: 120_000 }, async () => {
    // Its period gives seven chunks that differ, beside the last one and the index.
    const large = Buffer.alloc(5_000_000, 'a large value ')
    await node.ok(['write', '-p', '/data/team/plan', 'first'])
    await node.ok(['write', '/data/team/plan', 'second'])
    await node.ok(['write', '/data/large'], { input: large })
    await node.ok(['rights', '/data/team', 'ann=read,list'])
    const file = join(folder, 'data.backup')
    const told = JSON.parse(await node.ok(['--json', 'backup', 'data', file])) as Record<string, unknown>
    expect(told).toMatchObject({ file, store: 'data', chunks: 9, bytes: (await readFile(file)).length })
    await node.ok(['write', '/data/team/plan', 'after the backup'])
    const dir = join(folder, 'restored')
    const restored = await runNine(['--json', 'restore', file, '--data', dir])
    expect(restored.stderr).toBe('')
    expect(JSON.parse(restored.stdout)).toMatchObject({ store: 'data', id: told['id'], revision: told['revision'], chunks: 9 })
    const again = await startNode([], dir)
    try {
      expect(await again.ok(['cat', '/data/team/plan'])).toBe('second')
      expect(await again.ok(['cat', '/data/large'])).toBe(large.toString())
      expect(await again.ok(['rights', '/data/team'])).toContain('ann')
      await again.ok(['write', '/data/team/plan', 'it goes on'])
      // It is the node's now.
      const taken = await runNine(['restore', file, '--data', dir, '--force'])
      expect(taken.code).toBe(exitCodeOf('unavailable'))
    } finally {
      await again.stop()
    }
    const refused = await runNine(['restore', file, '--data', dir])
    expect(refused.code).toBe(exitCodeOf('exists'))
    expect(refused.stderr).toContain('--force')
    expect((await runNine(['restore', file, '--data', dir, '--force'])).code).toBe(0)
    expect((await runNine(['restore', file, '--data', dir, '--store', 'other'])).code).toBe(0)
  })

  it('overwrites nothing, and leaves no half of a file', async () => {
    const file = join(folder, 'kept')
    await writeFile(file, 'kept')
    expect((await node.nine(['backup', 'data', file])).code).toBe(exitCodeOf('exists'))
    expect(await readFile(file, 'utf8')).toBe('kept')
    expect((await node.nine(['backup', 'data', file, '--force'])).code).toBe(0)
    expect((await node.nine(['backup', 'none', join(folder, 'none')])).code).toBe(exitCodeOf('not_found'))
    expect((await node.nine(['backup', 'data', join(folder, 'no', 'where')])).code).toBe(exitCodeOf('not_found'))
    expect((await readdir(folder)).filter((name) => name.endsWith('.part') || name === 'none')).toEqual([])
    expect((await readdir(join(node.ready.data, 'snapshots'))).filter((name) => name.startsWith('out-'))).toEqual([])
  })

  it('writes to a regular file alone, whatever it is forced to, and says what is wrong before it asks for anything', async () => {
    const pipe = join(folder, 'pipe')
    execFileSync('mkfifo', [pipe])
    for (const command of [
      ['backup', 'data', '--force'],
      ['raft', 'snapshot'],
    ]) {
      const to = (file: string): Promise<Finished> => node.nine([...command, file])
      expect(await to(folder)).toMatchObject({
        code: exitCodeOf('is_directory'),
        stderr: `nine: ${folder} is a folder, not a file [is_directory]\n`,
      })
      for (const file of [pipe, '/dev/null']) {
        expect(await to(file)).toMatchObject({
          code: exitCodeOf('invalid'),
          stderr: `nine: ${file} is not a regular file [invalid]\n`,
        })
      }
      expect(await to(join(folder, 'no', 'where'))).toMatchObject({
        code: exitCodeOf('not_found'),
        stderr: `nine: there is no folder ${join(folder, 'no')} [not_found]\n`,
      })
    }
  })

  it('is for the owner of the node alone', async () => {
    const token = await node.ok(['token', 'create', 'guest'])
    const tokenFile = join(folder, 'guest.token')
    await writeFile(tokenFile, token.trim(), { mode: 0o600 })
    const denied = await node.nine(['--token-file', tokenFile, 'backup', 'data', join(folder, 'stolen')])
    expect(denied.code).toBe(exitCodeOf('denied'))
  })
})

describe('nine restore', () => {
  it('takes a regular file alone', async () => {
    const pipe = join(folder, 'restored-pipe')
    execFileSync('mkfifo', [pipe])
    const dir = join(folder, 'not-made')
    for (const command of [
      ['restore', '--data', dir],
      ['raft', 'restore', '--yes'],
    ]) {
      const from = async (file: string): Promise<string> => (await node.nine([...command, file])).stderr
      expect(await from(folder)).toBe(`nine: ${folder} is a folder, not a file [is_directory]\n`)
      for (const file of [pipe, '/dev/null', node.ready['9pUnix']!]) {
        expect(await from(file)).toBe(`nine: ${file} is not a regular file [invalid]\n`)
      }
      expect(await from('/nonexistent')).toBe('nine: /nonexistent: there is no such file [not_found]\n')
    }
    expect(await readdir(folder)).not.toContain('not-made')
  })

  it('names the block that is damaged, and makes no folder', async () => {
    const file = join(folder, 'good')
    await node.ok(['backup', 'data', file])
    const bytes = await readFile(file)
    bytes[bytes.length >> 1]! ^= 1
    const bad = join(folder, 'bad')
    await writeFile(bad, bytes)
    const dir = join(folder, 'never')
    const refused = await runNine(['restore', bad, '--data', dir])
    expect(refused.code).toBe(exitCodeOf('corrupt'))
    expect(refused.stderr).toMatch(/block \d+/)
    expect(await readdir(folder)).not.toContain('never')
    expect((await runNine(['restore', join(folder, 'missing'), '--data', dir])).code).toBe(exitCodeOf('not_found'))
  })
})
