/** What a folder says of its cluster, whole and damaged; and which group could go on without a node. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { nameOfMember, newMemberId, readClusterFile, writeClusterFile } from '../../services/cluster/cluster-file.ts'
import type { ClusterFile } from '../../services/cluster/cluster-file.ts'
import type { Configuration } from '../../raft/index.ts'
import { removalRefusal } from '../../services/cluster/guard.ts'
import { checkFolder, folderState } from '../../services/cluster/joining.ts'

const peers = [{ name: 'n1', address: '127.0.0.1:7001' }]
const file: ClusterFile = { format: 1, cluster: 'c1', member: 'n1.x', name: 'n1', stage: 'joining', peers }
let dir: string

beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'ninefold-cluster-'))))
afterEach(() => rmSync(dir, { recursive: true }))

describe('a folder', () => {
  it('belongs to nobody, to a node alone, or to a member', () => {
    expect(folderState(dir)).toEqual({ kind: 'empty' })
    expect(readClusterFile(join(dir, 'missing'))).toBeUndefined()
    writeFileSync(join(dir, 'stores.json'), JSON.stringify([{ group: 1, name: 'data', id: 'a', incarnation: 'b', owner: 'ann' }]))
    expect(folderState(dir)).toEqual({ kind: 'data' })
    writeClusterFile(dir, file)
    expect(readClusterFile(dir)).toEqual(file)
    expect(folderState(dir)).toEqual({ kind: 'member', cluster: 'c1', member: 'n1.x', stage: 'joining' })
  })

  it('of a member is opened as that member only', () => {
    expect(checkFolder(dir, 'n1')).toBeUndefined()
    writeClusterFile(dir, file)
    expect(checkFolder(dir, 'n1')).toEqual(file)
    expect(() => checkFolder(dir, undefined)).toThrow(/start it with --node n1 --peers n1=127.0.0.1:7001/)
    expect(() => checkFolder(dir, 'n2')).toThrow(/belongs to n1 of cluster c1, not to n2/)
  })

  it('that is damaged is refused with what to do, wherever the damage is', () => {
    writeClusterFile(dir, file)
    const text = readFileSync(join(dir, 'cluster.json'), 'utf8')
    for (const damaged of ['', '{', 'null', '[]', text.slice(0, -3), text.replace('n1.x', 'n9.x'), text.replace('joining', 'leaving')]) {
      writeFileSync(join(dir, 'cluster.json'), damaged)
      expect(() => readClusterFile(dir)).toThrow(
        expect.objectContaining({ kind: 'corrupt', message: expect.stringMatching(/restore it, or/) as string }) as Error,
      )
    }
    writeFileSync(join(dir, 'cluster.json'), text.replace('"format": 1', '"format": 2'))
    expect(() => readClusterFile(dir)).toThrow(expect.objectContaining({ kind: 'unsupported' }) as Error)
  })

  it('gets a member id of its own', () => {
    const id = newMemberId('n1', { id: () => 'abcdefghijklmnop', fraction: () => 0 })
    expect(id).toBe('n1.abcdefghij')
    expect(nameOfMember(id)).toBe('n1')
  })
})

describe('a group without one of its nodes', () => {
  const group = (...voters: string[]) => ({ voters, outgoing: [], learners: [], demoted: [] })
  const refusal = (configuration: Configuration, name: string, alive: readonly string[], staying = ['n1', 'n2', 'n3', 'n4']) =>
    removalRefusal(configuration, name, new Set(alive), new Set(staying))

  it('goes on where most of the others can be reached', () => {
    expect(refusal(group('n1.a', 'n2.b', 'n3.c'), 'n3', ['n1.a', 'n2.b'])).toBeUndefined()
    expect(refusal(group('n1.a', 'n2.b', 'n3.c'), 'n9', ['n1.a'])).toBeUndefined()
    expect(refusal(group('n1.a', 'n2.b'), 'n2', ['n1.a'])).toBeUndefined()
  })

  it('does not where they cannot, or nobody is left', () => {
    const few = refusal(group('n1.a', 'n2.b', 'n3.c'), 'n2', ['n1.a'])
    expect(few).toMatchObject({
      isFinal: false,
      message: expect.stringMatching(/has 2 voters and needs 2 of them, but n3 cannot/) as string,
    })
    expect(refusal(group('n1.a'), 'n1', ['n1.a'])).toMatchObject({ isFinal: true })
  })

  it('does not count on a voter that was removed before and is still in it', () => {
    const four = group('n1.a', 'n2.b', 'n3.c', 'n4.d')
    const up = ['n1.a', 'n2.b', 'n3.c']
    expect(refusal(four, 'n2', up)).toBeUndefined()
    expect(refusal(four, 'n2', up, ['n2', 'n3', 'n4'])).toMatchObject({
      isFinal: false,
      message: expect.stringMatching(/without n2 it has 2 voters and needs 2 of them, but n4 cannot/) as string,
    })
    expect(refusal(group('n1.a', 'n2.b'), 'n2', up, ['n2'])).toMatchObject({ isFinal: true })
  })
})
