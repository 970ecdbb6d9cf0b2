/** Deliberate bugs of the driver, which the simulation of whole nodes must find. As in mutants.ts, `from` occurs once in `file`. */
import type { Mutant } from './mutants.ts'

const child = 'driver-mutation-child.ts'

export const driverMutants: readonly Mutant[] = [
  {
    name: 'does not tell of what is lost',
    file: 'driver/pending.ts',
    from: 'if (run.term === term) endWithin(run, first, last, ended)',
    to: 'if (run.term < 0) endWithin(run, first, last, ended)',
    child,
  },
  {
    name: 'says that a write is durable when it is given',
    file: 'driver/member.ts',
    from: 'if (persist !== null) this.#node.write(this, persist)',
    to: 'if (persist !== null) {\n      this.#node.write(this, persist)\n      this.persisted(persist.ticket)\n    }',
    child,
  },
  {
    name: 'gives every write back as durable, failed or not',
    file: 'driver/driver.ts',
    from: 'if (error === undefined || error === null) member.persisted',
    to: 'if (error !== Symbol.iterator) member.persisted',
    child,
  },
  {
    name: 'serves reads that got no index',
    file: 'driver/member.ts',
    from: "for (const ref of failedReads) this.#reads.fail(ref, 'lost')",
    to: 'for (const ref of failedReads) this.#reads.serve(ref)',
    child,
  },
  {
    name: 'lets a read join one that the core was asked for before',
    file: 'driver/reads.ts',
    from: 'this.#open ??= makeDeferred()',
    to: 'const asked = [...this.#asked.values()].pop()\n    if (asked !== undefined) return asked.promise\n    this.#open ??= makeDeferred()',
    child,
  },
  {
    name: 'serves a read without asking the core',
    file: 'driver/member.ts',
    from: 'return this.#reads.begin()',
    to: 'return this.raft.leading !== null ? Promise.resolve() : this.#reads.begin()',
    child,
  },
  {
    name: 'installs a snapshot twice',
    file: 'driver/applying.ts',
    from: 'next.install !== null && this.#at === 0 && this.index < next.install.index',
    to: 'next.install !== null && this.#at === 0 && this.index <= next.install.index',
    child,
  },
  {
    name: 'applies what waited before a snapshot after it',
    file: 'driver/applying.ts',
    from: 'if (apply.install !== null) this.#drop() // A2',
    to: 'if (apply.install !== null) this.#at = 0',
    child,
  },
  {
    name: 'applies to a busy machine',
    file: 'driver/applying.ts',
    from: 'return !this.isDone && !this.isUnderWay && !sink.isBusy // A3',
    to: 'return !this.isDone && !this.isUnderWay // A3',
    child,
  },
  {
    name: 'an entry over which the machine takes its time counts as applied',
    file: 'driver/applying.ts',
    from: 'this.index-- // Indexes have no gaps.',
    to: '',
    child,
  },
  {
    name: 'goes on while the machine takes its time over an entry',
    file: 'driver/applying.ts',
    from: 'this.isUnderWay = true\n      this.index--',
    to: 'this.index--',
    child,
  },
  {
    name: 'a follower that rests does not see that its leader is silent',
    file: 'driver/rest.ts',
    from: 'if (++neighbour.silent > this.#options.election_ticks) this.#wakeAll',
    to: 'if (++neighbour.silent > this.#options.election_ticks && false) this.#wakeAll',
    child,
  },
  {
    name: 'a group that rests is not woken by a message',
    file: 'driver/member.ts',
    from: "if (message.kind === 'heartbeat_reply' || isStranger) this.#node.queue(this)\n    else this.#stir()",
    to: 'this.#node.queue(this)',
    child,
  },
  {
    name: 'the first beat wakes who rests',
    file: 'driver/rest.ts',
    from: 'if (neighbour.life !== -1) this.#wakeAll(neighbour)',
    to: 'this.#wakeAll(neighbour)',
    child,
  },
  {
    name: 'a learner that hears of no leader keeps silent',
    file: 'driver/member.ts',
    from: 'if (ticks > 0) this.#lookForLeader(ticks)',
    to: '',
    child,
  },
]
