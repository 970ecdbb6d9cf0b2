/** Session control, served: which method of a node's SessionControl answers which request. */
import { frameType } from '../../proto/frames.ts'
import type { Reader } from '../../proto/protobuf.ts'
import { NineError } from '../errors.ts'
import type { FileServer } from '../file-server.ts'
import type { ContextReader } from '../wire/context.ts'
import {
  bindRequest,
  controlRequest,
  deregisterRequest,
  entriesRequest,
  forkRequest,
  identifyRequest,
  mountRequest,
  registerRequest,
  unmountRequest,
} from '../wire/control.ts'
import type { SessionControl } from '../wire/control.ts'
import type { Messages } from '../wire/operation.ts'

interface Served {
  readonly messages: Messages<unknown, unknown>
  readonly answer: Promise<unknown>
}

/** @throws NineError `unsupported` for a type that is not known, or that this side does not offer; WireError */
export function serveControl(
  type: number,
  reader: Reader,
  contexts: ContextReader,
  control: SessionControl = {},
  serverOfPeer: (target: number) => FileServer,
): Served {
  switch (type) {
    case frameType.bind: {
      const request = bindRequest.readArgs(reader, contexts)
      return served(bindRequest, control.bind?.(contexts.take(), request))
    }
    case frameType.mount: {
      const request = mountRequest.readArgs(reader, contexts)
      return served(mountRequest, control.mount?.(contexts.take(), request))
    }
    case frameType.unmount: {
      const request = unmountRequest.readArgs(reader, contexts)
      return served(unmountRequest, control.unmount?.(contexts.take(), request))
    }
    case frameType.entries: {
      entriesRequest.readArgs(reader, contexts)
      return served(entriesRequest, control.entries?.(contexts.take()))
    }
    case frameType.fork: {
      forkRequest.readArgs(reader, contexts)
      return served(forkRequest, control.fork?.(contexts.take()))
    }
    case frameType.register: {
      const request = registerRequest.readArgs(reader, contexts)
      return served(registerRequest, control.register?.(contexts.take(), request, serverOfPeer(request.target)))
    }
    case frameType.deregister: {
      const request = deregisterRequest.readArgs(reader, contexts)
      return served(deregisterRequest, control.deregister?.(contexts.take(), request))
    }
    case frameType.control: {
      const { name, body } = controlRequest.readArgs(reader, contexts)
      return served(controlRequest, control.control?.(contexts.take(), name, body))
    }
    case frameType.identify: {
      identifyRequest.readArgs(reader, contexts)
      return served(identifyRequest, control.identify === undefined ? undefined : Promise.resolve(control.identify()))
    }
    default:
      throw new NineError({ kind: 'unsupported', op: 'session.request', message: `there is no request of type ${type}` })
  }
}

function served<Args, Result>(messages: Messages<Args, Result>, answer: Promise<Result> | undefined): Served {
  if (answer !== undefined) return { messages: messages as Messages<unknown, unknown>, answer }
  throw new NineError({ kind: 'unsupported', op: `session.${messages.name}`, message: `this end does not offer ${messages.name}` })
}
