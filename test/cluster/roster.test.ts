/** The members of a cluster as records, on a server in memory. */
import { beforeEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { limits } from '../../namespace/limits.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { parsePeers } from '../../services/cluster/peer-list.ts'
import { goalOf, Roster, wantedOf } from '../../services/cluster/roster.ts'

const peers = parsePeers('n1=h:1,n2=h:2,n3=h:3')
const founder = { name: 'n1', member: 'n1.a', address: 'h:1' }
let sys: MemoryServer
let roster: Roster

/** One of another node, on the same store. */
function another(): Roster {
  return new Roster(
    sys,
    () => contextFor({ name: 'ann', groups: [] }),
    () => 7,
  )
}

async function ids(): Promise<string[]> {
  return wantedOf(await roster.load()).map(({ id, role }) => `${id}:${role}`)
}

beforeEach(async () => {
  sys = new MemoryServer({ owner: 'ann' })
  roster = another()
  await roster.found(founder, peers)
})

describe('the members of a cluster', () => {
  it('begin with the founder, once', async () => {
    await roster.admit({ name: 'n2', member: 'n2.a', address: 'h:2' })
    await roster.remove('n2')
    await another().found(founder, parsePeers('n1=h:9'))
    expect(await ids()).toEqual(['n1.a:voter'])
    const { names, members } = await roster.load()
    expect([...names.keys()]).toEqual(['n1', 'n3'])
    expect(members.get('n1.a')?.value).toEqual({ name: 'n1', address: 'h:1', joined: 7 })
  })

  it('of a cluster before, in a restored store, are none of a new one', async () => {
    await roster.admit({ name: 'n2', member: 'n2.a', address: 'h:2' })
    await roster.remove('n3')
    await another().found({ name: 'n2', member: 'n2.b', address: 'h:5' }, parsePeers('n2=h:5,n4=h:6'))
    expect(await ids()).toEqual(['n2.b:voter'])
    const { names, removed } = await roster.load()
    expect([...names.keys()]).toEqual(['n2', 'n4'])
    expect([...removed]).toEqual([])
  })

  it('take in who was named, again and again with one effect', async () => {
    for (let i = 0; i < 2; i++) await roster.admit({ name: 'n2', member: 'n2.a', address: 'h:2' })
    expect(await ids()).toEqual(['n1.a:voter', 'n2.a:voter'])
  })

  it('refuse who was not named, with what to do', async () => {
    const refused = roster.admit({ name: 'n9', member: 'n9.a', address: 'h:9' })
    await expect(refused).rejects.toMatchObject({ kind: 'denied', message: expect.stringMatching(/nine raft add n9=h:9/) as string })
  })

  it('have one life of a node: the newer takes the place of the older, which is told', async () => {
    await roster.admit({ name: 'n2', member: 'n2.a', address: 'h:2' })
    await roster.admit({ name: 'n2', member: 'n2.b', address: 'h:22' })
    expect(await ids()).toEqual(['n1.a:voter', 'n2.b:voter'])
    const { removed, names } = await roster.load()
    expect([...removed.keys()]).toEqual(['n2.a'])
    expect(names.get('n2')?.value.address).toBe('h:22')
    await expect(roster.admit({ name: 'n2', member: 'n2.a', address: 'h:2' })).rejects.toMatchObject({
      kind: 'denied',
      message: expect.stringMatching(/n2\.a was replaced by n2\.b/) as string,
    })
  })

  it('have one life of a node also when two join at once', async () => {
    const lives = Array.from({ length: 5 }, (_, i) => ({ name: 'n2', member: `n2.${i}`, address: 'h:2' }))
    await Promise.all(lives.map((life) => another().admit(life)))
    const { members, removed } = await roster.load()
    expect([...members.values()].filter(({ value }) => value.name === 'n2')).toHaveLength(1)
    expect(removed.size).toBe(4)
  })

  it('grow and shrink by name', async () => {
    await roster.add({ name: 'n4', address: 'h:4' }, 'learner')
    await roster.add({ name: 'n4', address: 'h:4' }, 'learner')
    await roster.admit({ name: 'n4', member: 'n4.a', address: 'h:4' })
    expect(await ids()).toEqual(['n1.a:voter', 'n4.a:learner'])
    await roster.setRole('n4', 'voter')
    expect(await ids()).toEqual(['n1.a:voter', 'n4.a:voter'])
    await roster.remove('n4')
    expect(await ids()).toEqual(['n1.a:voter'])
    expect([...(await roster.load()).removed.keys()]).toEqual(['n4.a'])
    const back = roster.admit({ name: 'n4', member: 'n4.b', address: 'h:4' })
    await expect(back).rejects.toMatchObject({ kind: 'denied', message: expect.stringMatching(/nine raft add/) as string })
    await expect(roster.remove('n4')).rejects.toMatchObject({ kind: 'not_found' })
  })

  it('are judged again where others were removed meanwhile: of two removals at once the second knows of the first', async () => {
    await roster.admit({ name: 'n2', member: 'n2.a', address: 'h:2' })
    const judged: string[] = []
    const remove = (name: string) =>
      another().remove(name, {
        judge: ({ names }) => {
          judged.push(`${name} of ${[...names.keys()].join(' ')}`)
          if (names.size === 2) throw new Error('too few')
        },
      })
    const outcomes = await Promise.allSettled([remove('n1'), remove('n2')])
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(judged).toHaveLength(3)
    expect(judged[2]).toMatch(/^n[12] of n[12] n3$/)
    expect((await roster.load()).names.size).toBe(2)
  })

  it('are removed by force, also where the removal was noted without', async () => {
    await roster.admit({ name: 'n2', member: 'n2.a', address: 'h:2' })
    await roster.remove('n2')
    expect([...goalOf(await roster.load()).forced]).toEqual([])
    await roster.remove('n2', { isForced: true })
    expect([...goalOf(await roster.load()).forced]).toEqual(['n2.a'])
    await roster.remove('n1', { isForced: true })
    expect([...goalOf(await roster.load()).forced]).toEqual(['n2.a', 'n1.a'])
  })

  it('refuse names and addresses that are taken, and too many', async () => {
    await expect(roster.add({ name: 'n2', address: 'h:9' }, 'voter')).rejects.toMatchObject({ kind: 'exists' })
    await expect(roster.add({ name: 'n9', address: 'h:2' }, 'voter')).rejects.toMatchObject({ kind: 'invalid' })
    for (let i = 4; i <= limits.cluster_nodes_max; i++) await roster.add({ name: `n${i}`, address: `h:${i}` }, 'voter')
    await expect(roster.add({ name: 'm', address: 'h:99' }, 'voter')).rejects.toMatchObject({ kind: 'overloaded' })
  })

  it('forget the oldest of many removed lives', async () => {
    const lives = limits.cluster_removed_max + 3
    for (let i = 0; i < lives; i++) await roster.admit({ name: 'n2', member: `n2.${i}`, address: 'h:2' })
    const { removed } = await roster.load()
    expect(removed.size).toBe(limits.cluster_removed_max)
    expect(removed.has('n2.0')).toBe(false)
    expect(removed.has(`n2.${lives - 2}`)).toBe(true)
  })
})
