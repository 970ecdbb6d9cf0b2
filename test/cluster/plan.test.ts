/**
 * Configurations that follow the members of a cluster: by hand, and from any configuration to any members with learners that catch up
 * when they like.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Configuration, MembershipChange } from '../../raft/index.ts'
import { nameOfMember } from '../../services/cluster/cluster-file.ts'
import { stepsTo } from '../../services/cluster/plan.ts'
import type { Wanted } from '../../services/cluster/plan.ts'

const seed = Number(process.env['SEED'] ?? Date.now() % 1e9)

function configuration(voters: string[], learners: string[] = [], outgoing: string[] = []): Configuration {
  return { voters, learners, outgoing, demoted: [] }
}

function wanted(...ids: string[]): Wanted[] {
  return ids.map((id) => ({ id, name: nameOfMember(id), role: 'voter' }))
}

function steps(want: readonly Wanted[], have: Configuration): MembershipChange[][] {
  return stepsTo(want, have, nameOfMember)
}

describe('configurations follow the members', () => {
  it('does nothing when all is as wanted, or a change is under way', () => {
    expect(steps(wanted('n1.a', 'n2.b'), configuration(['n1.a', 'n2.b']))).toEqual([])
    expect(steps(wanted('n1.a', 'n2.b', 'n3.c'), configuration(['n1.a', 'n2.b'], [], ['n1.a']))).toEqual([])
  })

  it('takes newcomers in as learners, then makes them voters one by one', () => {
    const three = wanted('n1.a', 'n2.b', 'n3.c')
    expect(steps(three, configuration(['n1.a']))).toEqual([
      [
        { do: 'add_learner', id: 'n2.b' },
        { do: 'add_learner', id: 'n3.c' },
      ],
    ])
    expect(steps(three, configuration(['n1.a'], ['n2.b', 'n3.c']))).toEqual([
      [{ do: 'promote', id: 'n2.b' }],
      [{ do: 'promote', id: 'n3.c' }],
    ])
  })

  it('puts the new life of a node in the place of the old one, in one change', () => {
    const want = wanted('n1.a', 'n2.new', 'n3.c')
    expect(steps(want, configuration(['n1.a', 'n2.old', 'n3.c']))).toEqual([[{ do: 'add_learner', id: 'n2.new' }]])
    expect(steps(want, configuration(['n1.a', 'n2.old', 'n3.c'], ['n2.new']))).toEqual([
      [
        { do: 'promote', id: 'n2.new' },
        { do: 'remove', id: 'n2.old' },
      ],
    ])
  })

  it('removes who is wanted no more, but never the last voter', () => {
    expect(steps(wanted('n1.a'), configuration(['n1.a', 'n2.b']))).toEqual([[{ do: 'remove', id: 'n2.b' }]])
    expect(steps(wanted('n2.b'), configuration(['n1.a'], ['n2.b']))[0]).toEqual([{ do: 'promote', id: 'n2.b' }])
    expect(steps([], configuration(['n1.a']))).toEqual([])
  })

  it('leaves a learner one, and makes a voter one', () => {
    const want: Wanted[] = [...wanted('n1.a', 'n2.b'), { id: 'n3.c', name: 'n3', role: 'learner' }]
    expect(steps(want, configuration(['n1.a', 'n2.b'], ['n3.c']))).toEqual([])
    expect(steps(want, configuration(['n1.a', 'n2.b', 'n3.c']))).toEqual([[{ do: 'demote', id: 'n3.c' }]])
  })

  it(`ends at what is wanted, and nodes that stay are voters all the way (SEED=${seed})`, () => {
    const lives = fc.uniqueArray(fc.constantFrom('n1.a', 'n1.b', 'n2.a', 'n2.b', 'n3.a', 'n3.b', 'n4.a', 'n5.a'), {
      minLength: 1,
      maxLength: 5,
      selector: nameOfMember,
    })
    const role = fc.constantFrom('voter' as const, 'voter' as const, 'learner' as const)
    const check = fc.property(
      lives,
      lives,
      fc.array(role, { minLength: 5, maxLength: 5 }),
      fc.infiniteStream(fc.nat(7)),
      (before, after, roles, chance) => {
        const want = after.map((id, i): Wanted => ({ id, name: nameOfMember(id), role: i === 0 ? 'voter' : roles[i]! }))
        let now = configuration(before)
        // Nodes that stay are voters all the time, in one life or the other.
        const staying = want.filter(({ role: asked, name }) => asked === 'voter' && before.some((id) => nameOfMember(id) === name))
        for (let turn = 0; turn < 100; turn++) {
          const options = steps(want, now)
          if (options.length === 0) break
          const isBehind = (chance.next().value ?? 0) > 4
          const taken = options.find((changes) => !isBehind || !changes.some((change) => change.do === 'promote'))
          if (taken !== undefined) now = apply(now, taken)
          const names = now.voters.map(nameOfMember)
          expect(names).toEqual(expect.arrayContaining(staying.map(({ name }) => name)))
          expect(names.length).toBeGreaterThan(0)
          expect(new Set(names).size).toBe(names.length)
        }
        expect([...now.voters].sort()).toEqual(idsOf(want, 'voter'))
        expect([...now.learners].sort()).toEqual(idsOf(want, 'learner'))
      },
    )
    fc.assert(check, { seed, numRuns: 3_000 })
  })
})

function idsOf(want: readonly Wanted[], role: Wanted['role']): string[] {
  return want.filter((one) => one.role === role).map(({ id }) => id).sort() // prettier-ignore
}

/** The configuration that a change leads to. */
function apply({ voters, learners }: Configuration, changes: readonly MembershipChange[]): Configuration {
  const v = new Set(voters)
  const l = new Set(learners)
  for (const change of changes) {
    l.delete(change.id)
    if (change.do === 'add_learner' || change.do === 'demote') l.add(change.id)
    if (change.do === 'promote') v.add(change.id)
    else v.delete(change.id)
  }
  return configuration([...v], [...l])
}
