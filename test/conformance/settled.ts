/** The suite starts several operations and looks at them in turn: one that fails meanwhile is not unhandled. */
import type { FileServer } from '../../namespace/file-server.ts'

export function settledOnTheirOwn(server: FileServer): FileServer {
  return new Proxy(server, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      return (...args: unknown[]): unknown => {
        const result: unknown = Reflect.apply(value, target, args)
        if (result instanceof Promise) result.catch(() => undefined)
        return result
      }
    },
  })
}
