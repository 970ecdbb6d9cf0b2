/** The queue of one watcher: order, bounds, ends. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { NineError } from '../../namespace/errors.ts'
import type { WatchEvent } from '../../namespace/file-server.ts'
import { parsePath } from '../../namespace/path.ts'
import { decodePosition, type Position } from '../../namespace/position.ts'
import { concerns } from '../../namespace/watch-filter.ts'
import { WatchQueue, type WatchQueueOptions } from '../../namespace/watch-queue.ts'
import { fails } from '../conformance/suite/tools.ts'

function position(revision: number, ordinal = 0): Position {
  return [{ store: 's', incarnation: 'i', revision, ordinal }]
}

function event(revision: number, bytes = 0): WatchEvent {
  return { position: position(revision), bytes: bytes === 0 ? undefined : new Uint8Array(bytes) } as WatchEvent
}

function queue(options: Partial<WatchQueueOptions> = {}): WatchQueue {
  return new WatchQueue({ op: 'test.watch', path: '/', position: position(1), ...options })
}

async function revisions(watch: WatchQueue): Promise<number[]> {
  const step = await watch.next()
  return step.done === true ? [] : step.value.events.map((each) => each.position[0]!.revision)
}

describe('WatchQueue', () => {
  it('gives what waits as one batch, with where to go on', async () => {
    const watch = queue()
    watch.push([event(1), event(1)], position(2))
    watch.push([event(2)], position(3))
    const step = await watch.next()
    expect(step.done === true ? undefined : step.value).toMatchObject({ position: position(3) })
    expect(step.done === true ? 0 : step.value.events.length).toBe(3)
  })

  it('wakes who waits with all that one turn brought', async () => {
    const watch = queue()
    const waiting = revisions(watch)
    watch.push([event(1)], position(2))
    watch.push([event(2)], position(3))
    expect(await waiting).toEqual([1, 2])
  })

  it('tells progress only when somebody waits and nothing else is there', async () => {
    const watch = queue()
    watch.progress(position(5))
    watch.push([event(6)], position(7))
    watch.progress(position(8))
    expect(await revisions(watch)).toEqual([6])
    const waiting = watch.next()
    watch.progress(position(9))
    expect(await waiting).toEqual({ done: false, value: { events: [], position: position(9) } })
  })

  it('overflows by count with the first that did not fit', async () => {
    const watch = queue({ eventsMax: 3 })
    expect(watch.push([event(1), event(2)], position(3))).toBe(true)
    expect(watch.push([event(3), event(4)], position(5))).toBe(false)
    expect(watch.push([event(5)], position(6))).toBe(false)
    const step = await watch.next()
    expect(step.done === true ? undefined : step.value.position).toEqual(position(4))
    const end = await fails(watch.next(), 'overloaded', '/')
    expect(decodePosition(end.resume!)).toEqual(position(4))
    expect((await watch.next()).done).toBe(true)
  })

  it('overflows by bytes, but one event always fits', async () => {
    const watch = queue({ bytesMax: 2000 })
    expect(watch.push([event(1, 100_000)], position(2))).toBe(true)
    expect(watch.push([event(2)], position(3))).toBe(false)
    expect(await revisions(watch)).toEqual([1])
  })

  it('keeps the other stores of a position when one overflows', async () => {
    const both: Position = [...position(9), { store: 't', incarnation: 'j', revision: 4, ordinal: 0 }]
    const watch = queue({ eventsMax: 1 })
    watch.push([event(8)], both)
    watch.push([event(9)], both)
    await revisions(watch)
    const end = await fails(watch.next(), 'overloaded')
    expect(decodePosition(end.resume!)).toEqual(both)
  })

  it.each(['return', 'signal'] as const)('ends at once by %s, telling its owner once', async (how) => {
    const controller = new AbortController()
    let ends = 0
    const watch = queue({ signal: controller.signal, onEnd: () => ends++ })
    const waiting = watch.next()
    if (how === 'signal') controller.abort()
    else await watch.return()
    expect((await waiting).done).toBe(true)
    watch.push([event(1)], position(2))
    controller.abort()
    expect([(await watch.next()).done, watch.isEnded, ends]).toEqual([true, true, 1])
  })

  it('drops what waits when it is ended, keeps it when it fails', async () => {
    const [ended, failed] = [queue(), queue()]
    for (const watch of [ended, failed]) watch.push([event(1)], position(2))
    await ended.return()
    failed.fail(new NineError({ kind: 'unavailable', op: 'test.watch', message: 'gone' }))
    expect((await ended.next()).done).toBe(true)
    expect(await revisions(failed)).toEqual([1])
    await fails(failed.next(), 'unavailable')
  })

  it('begins ended when the signal was aborted', async () => {
    const watch = queue({ signal: AbortSignal.abort() })
    expect(watch.push([event(1)], position(2))).toBe(false)
    expect((await watch.next()).done).toBe(true)
  })

  it('loses and repeats nothing, in any interleaving, going on where it says', async () => {
    const steps = fc.array(fc.oneof(fc.constant('read' as const), fc.integer({ min: 1, max: 6 })), { maxLength: 40 })
    await fc.assert(
      fc.asyncProperty(steps, async (plan) => {
        let made = 0
        let from = 1
        const seen: number[] = []
        let watch = queue({ eventsMax: 4 })
        const read = async (): Promise<void> => {
          try {
            seen.push(...(await revisions(watch)))
          } catch (error) {
            from = decodePosition((error as NineError).resume!)[0]!.revision
            watch = queue({ eventsMax: 1000, position: position(from) })
            for (let r = from; r <= made; r++) watch.push([event(r)], position(r + 1))
          }
        }
        let waiting = 0
        for (const step of plan) {
          if (step !== 'read') {
            for (let i = 0; i < step; i++) watch.push([event(++made)], position(made + 1))
          } else if (seen.length < made) {
            await read()
            waiting++
          }
        }
        while (seen.length < made) await read()
        expect(seen).toEqual(Array.from({ length: made }, (_, i) => i + 1))
        expect(waiting).toBeLessThanOrEqual(plan.length)
      }),
      { numRuns: 300 },
    )
  })
})

describe('concerns', () => {
  const sees = (path: string, watched: string, recursive = false, more: { from?: string; subtree?: boolean } = {}): boolean =>
    concerns(
      { path: parsePath(path), from: more.from === undefined ? undefined : parsePath(more.from), subtree: more.subtree === true },
      parsePath(watched),
      recursive,
    )

  it('by path', () => {
    expect(sees('/a', '/a')).toBe(true)
    expect(sees('/a/b', '/a')).toBe(true)
    expect(sees('/a/b/c', '/a')).toBe(false)
    expect(sees('/a/b/c', '/a', true)).toBe(true)
    expect(sees('/ab', '/a', true)).toBe(false)
    expect(sees('/', '/')).toBe(true)
    expect(sees('/a', '/')).toBe(true)
    expect(sees('/', '/a', true)).toBe(false)
  })

  it('by either end of a rename, and by the tree the path stands in', () => {
    expect(sees('/x/n', '/a', false, { from: '/a/f' })).toBe(true)
    expect(sees('/a/n', '/a', false, { from: '/x/f' })).toBe(true)
    expect(sees('/x/n', '/a', false, { from: '/y/f' })).toBe(false)
    expect(sees('/a', '/a/b/c', false, { subtree: true })).toBe(true)
    expect(sees('/a', '/a/b/c')).toBe(false)
    expect(sees('/z', '/a/b', false, { from: '/a', subtree: true })).toBe(true)
    expect(sees('/ab', '/a', false, { subtree: true })).toBe(false)
  })
})
