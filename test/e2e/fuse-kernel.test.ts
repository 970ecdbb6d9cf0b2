/** `nine fuse` where the kernel has a 9P client: a whole node, and its mount through v9fs, inside a Linux that runs as a process. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { noGuestBecause, runInGuest } from '../ninep/linux-guest.ts'
import { startNode } from './run-nine.ts'

const why = noGuestBecause()
const nine = join(import.meta.dirname, '..', '..', 'dist', 'cli', 'nine.js')

it.skipIf(why !== undefined)(
  `mounts through the kernel’s own client${why === undefined ? '' : ` (skipped: ${why})`}`,
  { timeout: 180_000 },
  async () => {
    const outer = await startNode(['--9p-unix', '9p.socket'])
    const folder = join(outer.folder, 'guest')
    mkdirSync(folder)
    const socket = (outer.ready as unknown as { '9pUnix': string })['9pUnix']
    const steps = await runInGuest(
      folder,
      socket,
      'version=9p2000.L,aname=/data',
      `
cd /mnt; mkdir x
nine='${process.execPath} ${nine}'
# A guest that hangs ends all the same.
(sleep 120; halt -f) &
export NINE_TOKEN_FILE=/mnt/data/identity/token
$nine up --data /mnt/data --http 127.0.0.1:9580 --grpc 127.0.0.1:9581 --9p-unix /mnt/s.sock --ready-file /mnt/ready > /mnt/up.log 2>&1 &
node=$!
until [ -s /mnt/ready ]; do sleep 0.2; done
$nine write /data/a first
$nine fuse --json --9p /mnt/s.sock /data /mnt/x > /mnt/said &
mount=$!
until [ -s /mnt/said ]; do sleep 0.2; done
step ready; cut -d, -f1-3 /mnt/said
step used; cat /mnt/x/a; echo; echo second > /mnt/x/b; $nine cat /data/b; stat -c '%u %a' /mnt/x/b; grep /mnt/x /proc/mounts | tr ' ,' '\\n\\n' | grep -c -e trans=unix -e access=0 -e aname=/data
step ended; umount /mnt/x; wait $mount; echo $?
$nine fuse --read-only --via 9p --9p /mnt/s.sock /data /mnt/x > /mnt/said2 &
mount=$!
until [ -s /mnt/said2 ]; do sleep 0.2; done
step readonly; touch /mnt/x/c; kill $mount; wait $mount; echo $?; grep -c /mnt/x /proc/mounts
kill $node`,
    )
    await outer.kill()
    expect(steps.get('ready')).toBe('{"path":"/data","dir":"/mnt/x","via":"9p"')
    expect(steps.get('used')).toBe('first\nsecond\n0 644\n3')
    expect(steps.get('ended')).toBe('0')
    expect(steps.get('readonly')).toMatch(/Read-only file system\n0\n0$/)
  },
)
