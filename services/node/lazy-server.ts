/** A file server that is fetched when it is first used; each use tries again until it was had once. */
import { toNineError } from '../../namespace/errors.ts'
import type { FileServer, WatchBatch } from '../../namespace/file-server.ts'

type Method = (...args: unknown[]) => Promise<unknown>

export function lazyServer(fetch: () => Promise<FileServer>): FileServer {
  let had: FileServer | undefined
  const get = async (path: unknown): Promise<FileServer> => {
    try {
      return (had ??= await fetch())
    } catch (error) {
      throw toNineError(error, 'node.connect').at(typeof path === 'string' ? path : '')
    }
  }
  const forward = (name: (typeof methods)[number]): [string, Method] => [
    name,
    async (...args) => {
      const server = had ?? (await get(args[1]))
      return (server[name] as Method).apply(server, args)
    },
  ]
  const watch: FileServer['watch'] = (context, path, options) => ({
    [Symbol.asyncIterator]: () => {
      let iterator: Promise<AsyncIterator<WatchBatch>> | undefined
      const begun = (): Promise<AsyncIterator<WatchBatch>> =>
        (iterator ??= get(path).then((server) => server.watch(context, path, options)[Symbol.asyncIterator]()))
      return {
        next: async () => (await begun()).next(),
        return: async () => (await (await iterator)?.return?.()) ?? { done: true, value: undefined },
      }
    },
  })
  return { ...Object.fromEntries(methods.map(forward)), watch } as FileServer
}

const methods = [
  'stat',
  'list',
  'read',
  'write',
  'create',
  'mkdir',
  'symlink',
  'readlink',
  'remove',
  'rename',
  'setStat',
  'txn',
  'grantLease',
  'renewLease',
  'revokeLease',
  'lock',
  'open',
  'readHandle',
  'writeHandle',
  'truncateHandle',
  'statHandle',
  'syncHandle',
  'closeHandle',
  'getRights',
  'setRights',
] as const satisfies readonly Exclude<keyof FileServer, 'watch'>[]

/** Fails to compile when a method of the contract is missing above. */
const isComplete: Exclude<keyof FileServer, 'watch'> extends (typeof methods)[number] ? true : never = true
void isComplete
