/** Random commands for property tests. */
import fc from 'fast-check'
import { parsePath, type Path } from '../../namespace/path.ts'
import type { RightsRecord } from '../../namespace/rights.ts'
import type { Command, CreateFields, TreeCommand, WriteContent } from '../../storage/model.ts'

type Step = Extract<Command, { op: 'txn' }>['then'][number]

/** Mostly undefined, so that most commands are plain. */
function rarely<T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> {
  return fc.oneof({ weight: 6, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary })
}

const few = fc.constantFrom('a', 'b', 'é')
/** Few names, so that commands meet. */
export const somePath: fc.Arbitrary<Path> = fc.array(few, { maxLength: 3 }).map((names) => parsePath(`/${names.join('/')}`))
const someBytes = fc.uint8Array({ maxLength: 12 })
const ifMatch = fc.oneof(
  { weight: 8, arbitrary: fc.constant(undefined) },
  { weight: 1, arbitrary: fc.constant('none' as const) },
  { weight: 2, arbitrary: fc.record({ path: fc.integer({ min: 1, max: 6 }), version: fc.integer({ min: 1, max: 3 }) }) },
)
const lease = fc.constantFrom('l1', 'l2')
const blob = fc.record({
  root: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  depth: fc.nat({ max: 2 }),
  size: fc.integer({ min: 200_000, max: 2_000_000 }),
})
const content: fc.Arbitrary<WriteContent> = fc.oneof(
  fc.record({ kind: fc.constant('replace' as const), bytes: someBytes, base: rarely(ifMatch) }),
  fc.record({ kind: fc.constant('append' as const), bytes: someBytes }),
  fc.record({
    kind: fc.constant('splice' as const),
    offset: fc.oneof(
      { weight: 9, arbitrary: fc.nat({ max: 40 }) },
      { weight: 1, arbitrary: fc.constantFrom(-1, 0.5, 2 ** 53, 131_060, 131_072) },
    ),
    bytes: someBytes,
  }),
  fc.record({ kind: fc.constant('blob' as const), blob, base: ifMatch }),
)
const target = fc.record({ path: somePath, ino: rarely(fc.integer({ min: 1, max: 20 })) })
let ttls = 0
const createFields: fc.Arbitrary<CreateFields> = fc.record(
  {
    ifMatch,
    parents: fc.boolean(),
    lease: rarely(lease),
    ttl: rarely(fc.integer({ min: 100, max: 5000 }).map((ttlMs) => ({ lease: `t${ttls++}`, ttlMs }))),
    contentType: rarely(fc.constantFrom('text/plain', 'ä/ö')),
    mode: rarely(fc.nat({ max: 0o10000 })),
    modifiedAt: rarely(fc.integer({ min: -5, max: 2 ** 40 })),
  },
  { requiredKeys: [] },
)
const right = fc.constantFrom('read' as const, 'write' as const, 'list' as const, 'create' as const, 'remove' as const, 'admin' as const)
const record: fc.Arbitrary<RightsRecord> = fc.array(
  fc.record({ who: fc.constantFrom('*', 'alice', 'bob', 'group:staff'), rights: fc.array(right, { maxLength: 6 }) }),
  { maxLength: 3 },
)
const rights = fc.option(record, { nil: undefined })

export const someTreeCommand: fc.Arbitrary<TreeCommand> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .record({ target, content, mustExist: rarely(fc.constant(true)), fields: createFields })
      .map(({ fields, ...rest }) => ({ op: 'write' as const, ...fields, ...rest })),
  },
  {
    weight: 2,
    arbitrary: fc.record({ target, fields: createFields }).map((made) => ({ op: 'create' as const, target: made.target, ...made.fields })),
  },
  {
    weight: 4,
    arbitrary: fc.record({ target, fields: createFields }).map((made) => ({ op: 'mkdir' as const, target: made.target, ...made.fields })),
  },
  {
    weight: 1,
    arbitrary: fc
      .record({ target, link: fc.constantFrom('../x', '', 'é'), fields: createFields })
      .map((made) => ({ op: 'symlink' as const, target: made.target, link: made.link, ...made.fields })),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('remove' as const), target, ifMatch, recursive: fc.boolean() }) },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant('rename' as const),
      target,
      to: somePath,
      ifMatch,
      replace: fc.boolean(),
      parents: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('setStat' as const),
      target,
      ifMatch,
      mode: fc.option(fc.nat({ max: 0o7777 }), { nil: undefined }),
      owner: rarely(fc.constantFrom('x', 'ü')),
      group: rarely(fc.constant('g')),
      modifiedAt: rarely(fc.nat()),
      contentType: rarely(fc.constant('a/b')),
      size: rarely(fc.integer({ min: -1, max: 200_000 })),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('setRights' as const), target, rights, ifMatch }) },
)

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: someTreeCommand },
  { weight: 1, arbitrary: fc.record({ op: fc.constantFrom('stat' as const, 'read' as const), path: somePath }) },
)

export const someCommand: fc.Arbitrary<Command> = fc.oneof(
  { weight: 12, arbitrary: someTreeCommand },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('txn' as const),
      if: fc.array(
        fc.record({
          path: somePath,
          is: fc.oneof(
            fc.constant('exists' as const),
            fc.constant('none' as const),
            fc.record({ path: fc.nat({ max: 9 }), version: fc.nat({ max: 3 }) }),
          ),
        }),
        { maxLength: 2 },
      ),
      then: fc.array(step, { maxLength: 4 }),
      else: fc.array(step, { maxLength: 3 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('grantLease' as const), lease, ttlMs: fc.integer({ min: 50, max: 5000 }) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('endLease' as const), lease, expired: fc.boolean() }) },
)
