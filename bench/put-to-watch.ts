/** How long after a put its event is with a watch of the same session. */
import type { Context } from '../namespace/context.ts'
import type { WatchBatch } from '../namespace/file-server.ts'
import type { Path } from '../namespace/path.ts'
import type { Session } from '../sdk/session.ts'

/** Microseconds of each put, one after the other, as long as `goesOn` says so with the number of those before. */
export async function putsToWatch({ client }: Session, context: Context, path: Path, goesOn: (done: number) => boolean): Promise<number[]> {
  await client.write(path, 'x')
  const events = client.server.watch(context, path, { statsOnly: true })[Symbol.asyncIterator]()
  // The first batch tells from where the watch sees.
  await events.next()
  const micros: number[] = []
  while (goesOn(micros.length)) {
    const begun = performance.now()
    const written = client.server.write(context, path, Buffer.from('x'))
    for (let isSeen = false; !isSeen;) {
      const step: IteratorResult<WatchBatch> = await events.next()
      isSeen = step.done === true || step.value.events.length > 0
    }
    micros.push((performance.now() - begun) * 1000)
    await written
  }
  await events.return?.()
  return micros
}
