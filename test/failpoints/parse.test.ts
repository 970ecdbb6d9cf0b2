/** What NINE_FAILPOINTS may say, and that a node refuses all else before it does anything. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { failpoint, failpointValue, hasFailpoints, parseFailpoints } from '../../namespace/failpoint.ts'
import { ninePath } from '../e2e/up.ts'

it('is points with actions, at the Nth passing, from the Nth on, or always', () => {
  expect(
    parseFailpoints('wal.frame.after=kill@37; wal.sync=EIO@5+;wal.write=delay(150);chunk.write=error(ENOSPC);kept.entries=value(9)'),
  ).toEqual([
    { point: 'wal.frame.after', action: { do: 'kill' }, from: 37, isOpen: false },
    { point: 'wal.sync', action: { do: 'error', code: 'EIO' }, from: 5, isOpen: true },
    { point: 'wal.write', action: { do: 'delay', ms: 150 }, from: 1, isOpen: true },
    { point: 'chunk.write', action: { do: 'error', code: 'ENOSPC' }, from: 1, isOpen: true },
    { point: 'kept.entries', action: { do: 'value', value: 9 }, from: 1, isOpen: true },
  ])
})

it.each([
  ['', 'names no point'],
  ['wal.fram=kill', 'there is no point wal.fram'],
  ['wal.sync', 'POINT=ACTION'],
  ['wal.sync=kill@0', 'POINT=ACTION'],
  ['wal.sync=kill@1.5', 'POINT=ACTION'],
  ['wal.sync=die', 'none of kill'],
  ['wal.sync=delay(x)', 'none of kill'],
  ['wal.sync=delay(999999999)', 'none of kill'],
  ['apply.before=EIO', 'errors are for'],
  ['wal.sync=value(3)', 'value(N) is for'],
  ['kept.entries=kill', 'value(N) is for'],
])('refuses %j', (text, why) => {
  expect(() => parseFailpoints(text)).toThrow(expect.objectContaining({ kind: 'invalid', message: expect.stringContaining(why) as string }))
})

it('is off where nothing is said', () => {
  expect(hasFailpoints).toBe(false)
  expect(() => failpoint('wal.frame.after')).not.toThrow()
  expect(failpointValue('kept.entries', 7)).toBe(7)
})

it('a node that is told nonsense says so and does not start', async () => {
  const data = join(tmpdir(), `nine-never-${process.pid}`)
  const args = [ninePath, 'up', '--data', data, '--grpc', '127.0.0.1:0', '--http', '127.0.0.1:0']
  const env = { ...process.env, NINE_FAILPOINTS: 'wal.sync=EIO;apply.befor=kill' }
  const [code, said] = await new Promise<[unknown, string]>((resolve) => {
    execFile(process.execPath, args, { env }, (error, _out, stderr) => resolve([error?.code, stderr]))
  })
  expect(code).not.toBe(undefined)
  expect(said).toContain('there is no point apply.befor')
  expect(existsSync(data)).toBe(false)
})
