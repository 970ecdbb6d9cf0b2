/**
 * Are the transcripts and the simulations worth anything? Each deliberate bug of `mutants.ts` and `driver-mutants.ts` is put into a copy and has to be
 * found.
 * All of them takes minutes: `NINE_RAFT_MUTATIONS=1 npx vitest run test/raft/mutation.test.ts`. Otherwise only that they still fit the text.
 */
import { execFile } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { driverMutants } from './driver-mutants.ts'
import { mutants as coreMutants } from './mutants.ts'
import type { Mutant } from './mutants.ts'

const mutants: readonly Mutant[] = [...coreMutants, ...driverMutants]
const root = join(import.meta.dirname, '..', '..')
const seeds = 1500
/** Another simulation, of which a seed takes longer. */
const driverSeeds = 400
const noBug: Mutant = {
  name: 'none',
  file: 'driver/member.ts',
  from: 'export class Member<P>',
  to: 'export class Member<P>',
  child: 'driver-mutation-child.ts',
}
const copies: string[] = []
const report: string[] = []

describe('deliberate bugs in raft', () => {
  afterAll(async () => {
    for (const copy of copies) await rm(copy, { recursive: true })
    if (report.length > 0) console.log(report.join('\n'))
  })

  it('each has one place', async () => {
    for (const mutant of mutants) expect(await mutated(mutant), mutant.name).not.toBe('')
  })

  if (process.env.NINE_RAFT_MUTATIONS !== '1') return

  it('without a bug all passes', { timeout: 600_000 }, async () => {
    expect(await findings(null)).toEqual([])
    expect(await findings(noBug)).toEqual([])
  })

  for (const mutant of mutants) {
    it(mutant.name, { timeout: 600_000 }, async () => {
      const found = await findings(mutant)
      report.push(`${mutant.name}\n    ${found.map((line) => line.slice(0, 160)).join('\n    ')}`)
      expect(found).not.toEqual([])
    })
  }
})

/** What found the bug. */
async function findings(mutant: Mutant | null): Promise<string[]> {
  const copy = await mkdtemp(join(tmpdir(), 'raft-mutant-'))
  copies.push(copy)
  await cp(join(root, 'raft'), join(copy, 'raft'), { recursive: true })
  await cp(join(root, 'test', 'raft'), join(copy, 'test', 'raft'), { recursive: true })
  for (const folder of ['storage', 'namespace', 'test/wal']) await symlink(join(root, folder), join(copy, folder))
  await writeFile(join(copy, 'package.json'), '{"type":"module"}')
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'))
  if (mutant !== null) await writeFile(join(copy, 'raft', mutant.file), await mutated(mutant))
  const child = join(copy, 'test', 'raft', mutant?.child ?? 'mutation-child.ts')
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      ['--import', 'tsx', child, String(mutant?.child === undefined ? seeds : driverSeeds)],
      { cwd: copy, timeout: 300_000 },
      (error, stdout, stderr) => {
        if (error?.killed === true) resolve(['it never ends'])
        else if (stdout === '') reject(new Error(stderr))
        else resolve(JSON.parse(stdout) as string[])
      },
    )
  })
}

async function mutated({ file, from, to, name }: Mutant): Promise<string> {
  const text = await readFile(join(root, 'raft', file), 'utf8')
  const parts = text.split(from)
  if (parts.length !== 2) throw new Error(`${name}: its text occurs ${parts.length - 1} times in ${file}`)
  return parts.join(to)
}
