/** What stands at a service's registered name while no process serves it: everything is `unavailable`, nothing falls through. */
import { NineError } from '../../namespace/errors.ts'
import type { FileServer, WatchBatch } from '../../namespace/file-server.ts'

export function unavailableServer(message: string): FileServer {
  const refuse = (_context: unknown, path?: unknown): Promise<never> => {
    return Promise.reject(new NineError({ kind: 'unavailable', op: 'svc.resolve', path: typeof path === 'string' ? path : '', message }))
  }
  return {
    stat: refuse,
    list: refuse,
    read: refuse,
    write: refuse,
    create: refuse,
    mkdir: refuse,
    symlink: refuse,
    readlink: refuse,
    remove: refuse,
    rename: refuse,
    setStat: refuse,
    txn: refuse,
    watch: (context, path): AsyncIterable<WatchBatch> => ({ [Symbol.asyncIterator]: () => ({ next: () => refuse(context, path) }) }),
    grantLease: refuse,
    renewLease: refuse,
    revokeLease: refuse,
    lock: refuse,
    open: refuse,
    readHandle: refuse,
    writeHandle: refuse,
    truncateHandle: refuse,
    statHandle: refuse,
    syncHandle: refuse,
    closeHandle: refuse,
    getRights: refuse,
    setRights: refuse,
  }
}
