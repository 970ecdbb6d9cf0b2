/** A real file server whose operations a test can hold, to see what others do meanwhile. */
import type { FileServer } from '../../namespace/file-server.ts'

export interface Held {
  /** An operation has come to the gate. */
  readonly reached: Promise<void>
  release(): void
}

export class Gate {
  readonly #holds = new Map<string, { reached: () => void; released: Promise<void> }[]>()

  /** Hold the next operation of this name before it begins. */
  hold(name: string): Held {
    let reached!: () => void
    let release!: () => void
    const hasReached = new Promise<void>((resolve) => (reached = resolve))
    const released = new Promise<void>((resolve) => (release = resolve))
    this.#holds.set(name, [...(this.#holds.get(name) ?? []), { reached, released }])
    return { reached: hasReached, release }
  }

  /** Undefined where nothing is held. */
  pass(name: string): Promise<void> | undefined {
    const held = this.#holds.get(name)?.shift()
    held?.reached()
    return held?.released
  }

  over<T extends FileServer>(server: T): T {
    return new Proxy(server, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target)
        if (typeof value !== 'function' || typeof name !== 'string') return value
        return (...args: unknown[]): unknown => {
          const waits = this.pass(name)
          const run = (): unknown => Reflect.apply(value, target, args)
          return waits === undefined ? run() : waits.then(run)
        }
      },
    })
  }
}
