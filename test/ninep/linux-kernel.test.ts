/** Linux's own 9P client (v9fs) on our server, as programs use it. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startNode, temporaryFolder } from '../e2e/run-nine.ts'
import type { NodeProcess } from '../e2e/run-nine.ts'
import { noGuestBecause, runInGuest } from './linux-guest.ts'

const why = noGuestBecause()

if (why !== undefined) {
  it.skipIf(process.env['CI'] !== 'true')(`a Linux kernel mounts our server (skipped: ${why})`, () => {
    throw new Error(`this suite has to run in CI: ${why}`)
  })
}

let node: NodeProcess
let socket: string
let home: string | undefined

beforeAll(async () => {
  if (why !== undefined) return
  home = await temporaryFolder()
  node = await startNode(['--9p-unix', join(home, 'socket')])
  socket = node.ready['9pUnix']!
}, 60_000)

afterAll(async () => {
  await node?.kill()
  if (home !== undefined) rmSync(home, { recursive: true, force: true })
})

async function inGuest(options: string, script: string): Promise<Map<string, string>> {
  const folder = join(node.folder, `guest-${options.length}-${script.length}`)
  mkdirSync(folder)
  // A tree to copy, with what file systems differ about.
  const sample = join(folder, 'sample')
  mkdirSync(join(sample, 'deep/er'), { recursive: true })
  for (let i = 0; i < 300; i++) writeFileSync(join(sample, i % 3 === 0 ? 'deep/er' : 'deep', `file-${i}`), `${i}\n`.repeat(i * 7))
  writeFileSync(join(sample, 'large'), Buffer.alloc(3_000_000, 'large value '))
  return runInGuest(folder, socket, options, `SAMPLE=${sample}\n${script}`)
}

describe.skipIf(why !== undefined)('a Linux kernel mounts our server', () => {
  it('in 9P2000.L, and programs find what they expect', { timeout: 240_000 }, async () => {
    const steps = await inGuest(
      'version=9p2000.L,aname=/data',
      `
step files; echo hello > a; echo more >> a; cat a; stat -c '%s %a %F %h' a; mv a b; ln -s b link; cat link; ls
step attributes; touch -d '2001-02-03 04:05:06 UTC' b; TZ=UTC stat -c %y b; truncate -s 5 b; cat b; echo; chmod 600 b; chown 1000:1000 b; stat -c '%a %u %g' b
step refusals; ln b hard; mkfifo pipe; mkdir b; rmdir b; cat missing; mkdir full; touch full/x; rmdir full; mv full full/inside
step tree; cp -a $SAMPLE copy && diff -r $SAMPLE copy && find copy -type f | wc -l; (cd $SAMPLE && find . -printf '%P %m %T@\\n' | cut -d. -f1 | sort) > /mnt/one; (cd copy && find . -printf '%P %m %T@\\n' | cut -d. -f1 | sort) > /mnt/two; cmp /mnt/one /mnt/two && echo times; grep -rl '^299$' copy; rm -r copy; ls
step tar; mkdir out; tar cf - -C $SAMPLE . | tar xf - -C out && diff -r $SAMPLE out && echo same; rm -r out
step git; git init -q repo && cd repo && git config user.email a@b.c && git config user.name n && cp $SAMPLE/deep/file-1* . && git add . && git commit -qm one && git log --format=%s && git fsck && git status --short
step sqlite; sqlite3 db 'create table t(a)'; for p in 1 2; do (for i in $(seq 1 15); do sqlite3 -cmd '.timeout 30000' db "begin immediate; insert into t values($i); insert into t values($i); commit"; done) & done; wait; sqlite3 db 'select count(*) from t; pragma integrity_check'
step many; for i in $(seq 1 400); do echo $i > many-$i; done; ls | grep -c many; rm many-*; ls | grep -c many
step editor; echo old > text; (echo new > .text.tmp; sync .text.tmp; mv .text.tmp text); cat text
step appended; (for i in 1 2 3; do echo line $i >> log; done); tail -n 2 log
step open; exec 4<> unlinked; echo abc >&4; rm unlinked; stat -L -c %s /proc/self/fd/4; exec 4>&-; ls unlinked
step df; df -T . | tail -1 | cut -d' ' -f1,2- | grep -c 9p`,
    )
    expect(steps.get('mount')).toBe('')
    expect(steps.get('files')).toBe('hello\nmore\n11 644 regular file 1\nhello\nmore\nb\nlink')
    expect(steps.get('attributes')).toBe('2001-02-03 04:05:06.000000000 +0000\nhello\n600 1000 1000')
    expect(steps.get('refusals')?.split('\n').map((line) => line.replace(/.*: /, ''))).toEqual([
      'Operation not supported',
      'Operation not supported',
      'File exists',
      'Not a directory',
      'No such file or directory',
      'Directory not empty',
      expect.stringContaining('subdirectory of itself'),
    ]) // prettier-ignore
    expect(steps.get('tree')).toBe('301\ntimes\ncopy/deep/file-299\nb\nfull\nlink')
    expect(steps.get('tar')).toBe('same')
    expect(steps.get('git')).toBe('one')
    expect(steps.get('sqlite')).toBe('60\nok')
    expect(steps.get('many')).toBe('400\n0')
    expect(steps.get('editor')).toBe('new')
    expect(steps.get('appended')).toBe('line 2\nline 3')
    expect(steps.get('open')).toBe("4\nls: cannot access 'unlinked': No such file or directory")
    expect(steps.get('df')).toBe('1')
    expect(steps.get('umount')).toBe('')
    // What the guest wrote is the node's, for everybody.
    expect(await node.ok(['cat', '/data/work/text'])).toBe('new\n')
  })

  it('in 9P2000, as Plan 9 would', { timeout: 120_000 }, async () => {
    const steps = await inGuest(
      'version=9p2000,aname=/data,noextend',
      `
step plain; cd /mnt/tree; mkdir plain; cd plain; echo hello > a; cat a; mv a b; ls; stat -c %s b; cp $SAMPLE/large .; cmp large $SAMPLE/large && echo same; truncate -s 3 b; cat b; rm large; ls; cd ..; rm -r plain; ls -d plain`,
    )
    expect(steps.get('mount')).toBe('')
    expect(steps.get('plain')).toBe("hello\nb\n6\nsame\nhelb\nls: cannot access 'plain': No such file or directory")
    expect(steps.get('umount')).toBe('')
  })
})
