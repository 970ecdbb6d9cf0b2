/** `nine mount 9p://…` as it is typed: a real diod below a node, tokens of mounts that fail. */
import { execFileSync } from 'node:child_process'
import { mkdir, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startNode, temporaryFolder } from '../e2e/run-nine.ts'
import type { NodeProcess } from '../e2e/run-nine.ts'
import { diodUid, hasDiod, startDiod } from './diod.ts'

let node: NodeProcess
let folder: string

beforeAll(async () => {
  folder = await temporaryFolder()
  node = await startNode(['--owner', 'ann', '--9p', '127.0.0.1:0'])
})

afterAll(async () => {
  await node.kill()
  await rm(folder, { recursive: true })
})

it.skipIf(!hasDiod)('a tree that is imported into another server is the same there, with the times of its directories', async () => {
  const diod = await startDiod()
  const tree = join(folder, 'tree')
  await mkdir(join(tree, 'a/b'), { recursive: true })
  await mkdir(join(tree, 'empty'))
  for (const name of ['top', 'a/f', 'a/b/f', 'a/b/g']) await writeFile(join(tree, name), name)
  for (const name of ['a/b', 'a', 'empty']) await utimes(join(tree, name), 1e9, 1e9)
  await node.ok(['mount', `9p://${diodUid}@${diod.address}${diod.folder}`, '/n/other'])
  await node.ok(['import', tree, '/n/other/tree'])
  expect((await node.nine(['diff', tree, '/n/other/tree'])).code).toBe(0)
  expect(execFileSync('diff', ['-r', tree, join(diod.folder, 'tree')]).toString()).toBe('')

  // Again, with a change below a directory that has not changed itself.
  await writeFile(join(tree, 'a/b/g'), 'another')
  await rm(join(diod.folder, 'tree/a/f'))
  await utimes(join(diod.folder, 'tree/a'), 1e9, 1e9)
  await node.ok(['import', tree, '/n/other/tree'])
  expect((await node.nine(['diff', tree, '/n/other/tree'])).code).toBe(0)
  await node.ok(['unmount', '/n/other'])
  await diod.close()
})

it('a mount that fails leaves the token of the others as it was', async () => {
  const address = node.ready['9p']!
  const bad = join(folder, 'bad')
  await writeFile(bad, 'no-token')
  const tokenFile = `/usr/ann/tokens/${address}`
  expect((await node.nine(['mount', `9p://${address}/data`, '/n/x', '--source-token-file', bad])).stderr).toContain('[unauthenticated]')
  expect((await node.nine(['cat', tokenFile])).stderr).toContain('[not_found]')
  await node.ok(['mount', `9p://${address}/data`, '/n/x', '--source-token-file', node.ready.tokenFile])
  await node.ok(['write', '/n/x/f', 'let in'])
  expect((await node.nine(['mount', `9p://${address}/data`, '/n/y', '--source-token-file', bad])).stderr).toContain('[unauthenticated]')
  expect(await node.ok(['cat', tokenFile])).toBe(node.token.trim())
})
