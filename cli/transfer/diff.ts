/** nine diff DIR PATH: whether a local folder and a tree of the namespace are equal, contents included. */
import { createReadStream } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Client } from '../../sdk/client-api.ts'
import { InFlight } from './in-flight.ts'
import { localFolder, localTree } from './local-tree.ts'
import type { TreeEntry, Unfit } from './local-tree.ts'
import { differences, mergeTrees } from './merge.ts'
import type { Progress } from './progress.ts'
import { remoteTree } from './remote-tree.ts'

export interface Difference {
  readonly path: string
  /** `only in DIR`, `only in PATH`, or what differs. */
  readonly what: string
}

export interface DiffReport {
  readonly compared: number
  readonly bytes: number
  readonly differences: number
  readonly seconds: number
}

const whole_bytes_max = 1024 * 1024

/** @param onDifference called for each, in the order found */
export async function diffTrees(
  client: Client,
  dir: string,
  path: string,
  options: { readonly inFlight: number; readonly progress: Progress },
  onDifference: (difference: Difference) => void,
): Promise<DiffReport> {
  const begun = performance.now()
  let compared = 0
  let bytes = 0
  let found = 0
  const report = (at: string, what: string): void => {
    found++
    onDifference({ path: at, what })
  }
  const onUnfit = ({ path: at, why }: Unfit): void => report(at, `cannot be compared: ${why}`)
  const jobs = new InFlight(options.inFlight)
  await client.stat(path)
  await localFolder(stat(dir), dir)
  for await (const { left, right } of mergeTrees(localTree(dir, onUnfit), remoteTree(client, path, onUnfit))) {
    compared++
    if (left === undefined) report(right!.path, `only in ${path}`)
    else if (right === undefined) report(left.path, `only in ${dir}`)
    else {
      const known = differences(left, right)
      if (known.length > 0) report(left.path, known.join(', '))
      if (left.kind === 'file' && right.kind === 'file' && left.size === right.size && left.size > 0) {
        await jobs.add(async () => {
          const isSame = await isSameContent(client, join(dir, left.path), path === '/' ? `/${left.path}` : `${path}/${left.path}`, left)
          bytes += left.size
          if (!isSame) report(left.path, 'contents differ')
          options.progress.add(1, left.size)
        })
        continue
      }
    }
    options.progress.add(1, 0)
  }
  await jobs.settle()
  return { compared, bytes, differences: found, seconds: (performance.now() - begun) / 1000 }
}

async function isSameContent(client: Client, local: string, remote: string, entry: TreeEntry): Promise<boolean> {
  if (entry.size <= whole_bytes_max) {
    const [a, b] = await Promise.all([readFile(local), client.read(remote)])
    return a.equals(b)
  }
  const ours = createReadStream(local, { highWaterMark: whole_bytes_max })[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  let rest = Buffer.alloc(0)
  for await (const part of client.readStream(remote)) {
    while (rest.length < part.length) {
      const next = await ours.next()
      if (next.done === true) return false
      rest = Buffer.concat([rest, next.value])
    }
    if (!rest.subarray(0, part.length).equals(part)) {
      await ours.return?.()
      return false
    }
    rest = rest.subarray(part.length)
  }
  return rest.length === 0 && (await ours.next()).done === true
}
