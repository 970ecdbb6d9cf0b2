/**
 * A real mount of a real tree, used by the programs people use: find, grep, tar, git, sqlite3, editors, tail, cp, mv, rm.
 */
import { execFileSync, spawn } from 'node:child_process'
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, readSync, renameSync, rmSync, unlinkSync, writeSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, rmdir, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { endMounts, hasProgram, isMounted, mountTree, noFuseBecause, shell } from './mounted.ts'
import type { MountProcess } from './mounted.ts'
import { startNode, temporaryFolder } from './run-nine.ts'
import type { NodeProcess } from './run-nine.ts'

const why = noFuseBecause()
const root = join(import.meta.dirname, '..', '..')
const patient = 300_000

describe.skipIf(why !== undefined)(`a mount through FUSE${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
  let node: NodeProcess
  let mount: MountProcess
  let folder: string
  /** A copy of sources of this project, with a link and an executable. */
  let tree: string

  beforeAll(async () => {
    node = await startNode()
    folder = await temporaryFolder()
    tree = join(folder, 'tree')
    await mkdir(tree)
    for (const part of ['namespace', 'cli', 'sdk']) execFileSync('cp', ['-a', join(root, part), tree])
    await symlink('namespace/path.ts', join(tree, 'link'))
    await writeFile(join(tree, 'run.sh'), '#!/bin/sh\necho ran\n', { mode: 0o755 })
    await node.ok(['import', tree, '/data/tree'])
    mount = await mountTree(node, '/data')
  }, patient)

  afterAll(async () => {
    const { code, stderr } = await mount.stop()
    await endMounts()
    await node.kill()
    await rmdir(mount.dir)
    await rm(folder, { recursive: true })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  }, patient)

  const at = (name: string): string => join(mount.dir, name)

  it('says in one line what is where', () => {
    expect(mount.ready).toEqual({ path: '/data', dir: mount.dir, via: 'fuse', pid: mount.process.pid })
    expect(isMounted(mount.dir)).toBe(true)
  })

  it('is what was imported, to diff, find, grep, ls and a program run from it', async () => {
    await shell(`diff -r --no-dereference ${tree} ${at('tree')}`)
    for (const line of [
      'find . -printf "%P %y %m %s %l\\n" | grep -v "^[^ ]* d" | sort',
      'grep -rc FileServer . | sort',
      'find . -type d | sort',
      './run.sh',
    ]) {
      expect(await shell(line, at('tree'))).toBe(await shell(line, tree))
    }
    expect((await stat(at('tree/run.sh'))).mtimeMs).toBe(Math.floor((await stat(join(tree, 'run.sh'))).mtimeMs))
  })

  it('takes a tree from tar and gives it back', async () => {
    const begun = performance.now()
    await mkdir(at('untarred'))
    await shell(`tar cf - -C ${tree} . | tar xf - -C ${at('untarred')}`)
    const into = performance.now()
    await mkdir(join(folder, 'back'))
    await shell(`tar cf - -C ${at('untarred')} . | tar xf - -C ${join(folder, 'back')}`)
    const files = Number(await shell(`find ${tree} | wc -l`))
    console.log(`fuse: tar in ${files} entries ${seconds(begun, into)}, out ${seconds(into, performance.now())}`)
    await shell(`diff -r --no-dereference ${tree} ${join(folder, 'back')}`)
    expect(await node.ok(['cat', '/data/untarred/namespace/path.ts'])).toBe(await readFile(join(tree, 'namespace/path.ts'), 'utf8'))
  })

  it.skipIf(!hasProgram('git'))(
    'holds a git repository',
    async () => {
      const begun = performance.now()
      await shell(`cp -r ${tree} ${at('repo')}`)
      const copied = performance.now()
      const git = 'git -c user.name=n -c user.email=n@localhost -c init.defaultBranch=main'
      await shell(`${git} init -q . && ${git} add . && ${git} commit -q -m first`, at('repo'))
      const committed = performance.now()
      await shell(`echo more >> run.sh && git mv link renamed && ${git} commit -qam second && git gc -q`, at('repo'))
      expect(await shell('git fsck --strict 2>&1 && git status --porcelain && git log --oneline | wc -l', at('repo'))).toMatch(/^2$/m)
      expect(await shell('git status --porcelain', at('repo'))).toBe('')
      await shell(
        `git clone -q ${at('repo')} ${join(folder, 'clone')} && diff -r --exclude=.git --no-dereference ${at('repo')} ${join(folder, 'clone')}`,
      )
      console.log(`fuse: cp -r ${seconds(begun, copied)}, git init, add and commit ${seconds(copied, committed)}`)
    },
    patient,
  )

  it.skipIf(!hasProgram('sqlite3'))(
    'holds a database that two processes write at once',
    async () => {
      await mkdir(at('db'))
      const file = at('db/test.sqlite')
      await shell(
        `sqlite3 ${file} 'CREATE TABLE t (id INTEGER PRIMARY KEY, who TEXT, n INTEGER); CREATE TABLE sum (n INTEGER); INSERT INTO sum VALUES (0);'`,
      )
      const writer = (who: string): string =>
        `for i in $(seq 40); do echo "BEGIN IMMEDIATE; INSERT INTO t (who, n) VALUES ('${who}', $i); UPDATE sum SET n = n + 1; COMMIT;"; done | sqlite3 -bail -cmd '.timeout 60000' ${file}`
      const begun = performance.now()
      await Promise.all([shell(writer('a')), shell(writer('b'))])
      console.log(`fuse: 80 transactions of sqlite3 from two processes ${seconds(begun, performance.now())}`)
      const asked = `sqlite3 ${file} "SELECT count(*), count(DISTINCT who || n) FROM t; SELECT n FROM sum; PRAGMA integrity_check;"`
      expect(await shell(asked)).toBe('80|80\n80\nok\n')
      // The same bytes at the node are the same database.
      await node.ok(['export', '/data/db', join(folder, 'db')])
      expect(await shell(asked.replace(file, join(folder, 'db/test.sqlite')))).toBe('80|80\n80\nok\n')
    },
    patient,
  )

  it('shows tail -f what others append, by nine and by the shell', async () => {
    await writeFile(at('log'), 'one\n')
    const tail = spawn('tail', ['-n', '+1', '-s', '0.05', '-f', at('log')], { stdio: ['ignore', 'pipe', 'inherit'] })
    try {
      const lines = createInterface({ input: tail.stdout })[Symbol.asyncIterator]()
      const next = async (): Promise<string> => (await lines.next()).value as string
      expect(await next()).toBe('one')
      await node.ok(['append', '/data/log', 'two\n'])
      expect(await next()).toBe('two')
      await shell(`echo three >> ${at('log')}`)
      expect(await next()).toBe('three')
      await node.ok(['append', '/data/log', 'four\n'])
      await shell(`echo five >> ${at('log')}`)
      expect([await next(), await next()]).toEqual(['four', 'five'])
    } finally {
      tail.kill()
    }
    expect(await node.ok(['cat', '/data/log'])).toBe('one\ntwo\nthree\nfour\nfive\n')
  })

  it('keeps an editor’s save: temporary file, fsync, rename over', async () => {
    await node.ok(['write', '/data/doc', 'old'])
    const reader = openSync(at('doc'), 'r')
    const fd = openSync(at('.doc.swp'), 'wx', 0o600)
    writeSync(fd, 'new text')
    fsyncSync(fd)
    closeSync(fd)
    renameSync(at('.doc.swp'), at('doc'))
    expect(await node.ok(['cat', '/data/doc'])).toBe('new text')
    expect(await readFile(at('doc'), 'utf8')).toBe('new text')
    // Who had the old one open still reads it.
    const buffer = Buffer.alloc(10)
    expect(buffer.toString('utf8', 0, readSync(reader, buffer, 0, 10, 0))).toBe('old')
    closeSync(reader)
    expect((await readdir(mount.dir)).filter((name) => name.startsWith('.'))).toEqual([])
  })

  it('replaces a file that is open in one change, so that nobody misses it', async () => {
    await node.ok(['write', '/data/swapped', 'old'])
    await node.ok(['write', '/data/swapping', 'new'])
    const { revision } = JSON.parse(await node.ok(['--json', 'stat', '/data/swapping'])) as { revision: number }
    const reader = openSync(at('swapped'), 'r')
    renameSync(at('swapping'), at('swapped'))
    closeSync(reader)
    const said = await node.ok(['--json', 'watch', '/data/swapped', '--from', String(revision + 1), '-n', '2'])
    const events = said
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string; path: string; revision: number })
    expect(events).toMatchObject([
      { type: 'remove', path: '/data/swapped', revision: revision + 1 },
      { type: 'rename', path: '/data/swapped', revision: revision + 1 },
    ])
  })

  it('goes on with a file that was removed while it is open', async () => {
    const fd = openSync(at('gone'), 'w+')
    writeSync(fd, 'still here')
    unlinkSync(at('gone'))
    expect(await readdir(mount.dir)).not.toContain('gone')
    expect((await node.nine(['cat', '/data/gone'])).stderr).toContain('[not_found]')
    writeSync(fd, ', and more')
    const buffer = Buffer.alloc(64)
    expect(buffer.toString('utf8', 0, readSync(fd, buffer, 0, 64, 0))).toBe('still here, and more')
    expect(fstatSync(fd)).toMatchObject({ size: 20, nlink: 0 })
    ftruncateSync(fd, 5)
    expect(fstatSync(fd).size).toBe(5)
    await writeFile(at('gone'), 'another')
    closeSync(fd)
    expect(await node.ok(['cat', '/data/gone'])).toBe('another')
    expect(await node.ok(['ls', '/data'])).not.toContain('fuse_hidden')
  })

  it('removes a tree of which files are open', async () => {
    await mkdir(at('open/deep'), { recursive: true })
    const fds = ['open/a', 'open/deep/b'].map((name) => openSync(at(name), 'w'))
    rmSync(at('open'), { recursive: true })
    expect((await node.nine(['ls', '/data/open'])).stderr).toContain('[not_found]')
    for (const fd of fds) closeSync(fd)
  })

  it(
    'carries large files, and reads and writes past 4 GiB',
    async () => {
      const big = join(folder, 'big')
      await shell(`head -c 134217728 /dev/urandom > ${big}`)
      const begun = performance.now()
      await shell(`cp ${big} ${at('big')}`)
      const written = performance.now()
      await shell(`cmp ${big} ${at('big')}`)
      console.log(`fuse: 128 MiB written ${seconds(begun, written)}, compared ${seconds(written, performance.now())}`)
      const far = 5 * 2 ** 30
      const fd = openSync(at('sparse'), 'w+')
      writeSync(fd, 'end', far)
      fsyncSync(fd)
      const buffer = Buffer.alloc(8)
      expect(readSync(fd, buffer, 0, 8, far)).toBe(3)
      expect(buffer.toString('utf8', 0, 3)).toBe('end')
      expect(readSync(fd, buffer, 0, 8, 2 ** 31)).toBe(8)
      expect(buffer).toEqual(Buffer.alloc(8))
      closeSync(fd)
      expect((await stat(at('sparse'))).size).toBe(far + 3)
      await truncate(at('sparse'), far + 1)
      expect((await stat(at('sparse'))).size).toBe(far + 1)
      await rm(at('sparse'))
    },
    patient,
  )

  it('moves directories, and open files with them', async () => {
    await shell('mkdir -p from/sub && echo 1 > from/sub/x', mount.dir)
    const fd = openSync(at('from/sub/x'), 'a')
    await shell('mv from to && mkdir to/empty && mkdir other && mv -T other to/empty', mount.dir)
    writeSync(fd, '2\n')
    closeSync(fd)
    expect(await node.ok(['cat', '/data/to/sub/x'])).toBe('1\n2\n')
    await expect(
      shell('mv -T to/sub to/empty && mkdir to/full to/full2 && touch to/full/y && mv -T to/full2 to/full', mount.dir),
    ).rejects.toThrow(/not empty/)
    await shell('rm -rf to', mount.dir)
    expect((await node.nine(['stat', '/data/to'])).stderr).toContain('[not_found]')
  })

  it('keeps modes, times and owners that cp -p sets', async () => {
    const from = join(folder, 'kept')
    await writeFile(from, 'kept', { mode: 0o640 })
    await utimes(from, new Date('2001-02-03T04:05:06.789Z'), new Date('2010-11-12T13:14:15.500Z'))
    await shell(`cp -p ${from} ${at('kept')}`)
    const ours = await stat(at('kept'))
    expect({ mode: ours.mode & 0o7777, mtime: ours.mtime.toISOString(), uid: ours.uid }).toEqual({
      mode: 0o640,
      mtime: '2010-11-12T13:14:15.500Z',
      uid: process.getuid!(),
    })
    expect(await node.ok(['--json', 'stat', '/data/kept'])).toContain('2010-11-12T13:14:15.5')
    if (process.getuid!() === 0) {
      await shell('chown 1234:4321 kept', mount.dir)
      expect(await stat(at('kept'))).toMatchObject({ uid: 1234, gid: 4321 })
      expect(await node.ok(['--json', 'stat', '/data/kept'])).toContain('"owner":"1234"')
    }
  })

  it('makes a file for one of many who ask with O_EXCL, over two mounts', async () => {
    const second = await mountTree(node, '/data')
    try {
      const race = (dir: string): string =>
        `for i in $(seq 60); do (set -C; echo ${dir === mount.dir ? 1 : 2} > excl.$i) 2>/dev/null && echo $i || true; done`
      const [a, b] = await Promise.all([shell(race(mount.dir), mount.dir), shell(race(second.dir), second.dir)])
      const won = [...a.trim().split('\n'), ...b.trim().split('\n')].filter((line) => line !== '').map(Number)
      expect(won.sort((x, y) => x - y)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1))
      await Promise.all([
        shell('for i in $(seq 50); do echo a$i >> both; done', mount.dir),
        shell('for i in $(seq 50); do echo b$i >> both; done', second.dir),
      ])
      expect((await node.ok(['cat', '/data/both'])).trim().split('\n').length).toBe(100)
    } finally {
      expect(await second.stop()).toMatchObject({ code: 0, stderr: '' })
      await rmdir(second.dir)
    }
  })

  it('shows at once what others make, change, grow, cut and remove', async () => {
    for (const text of ['short', 'a longer text', 'cut', 'other', 'OTHER']) {
      await node.ok(['write', '/data/shared', text])
      expect(await readFile(at('shared'), 'utf8')).toBe(text)
    }
    await node.ok(['rm', '/data/shared'])
    await writeFile(at('shared'), 'made anew', { flag: 'a' })
    await node.ok(['rm', '/data/shared'])
    await writeFile(at('shared'), 'again', { flag: 'wx' })
    expect(await node.ok(['cat', '/data/shared'])).toBe('again')
    await node.ok(['rm', '/data/shared'])
    await expect(readFile(at('shared'))).rejects.toThrow('ENOENT')
    await node.ok(['mkdir', '/data/shared'])
    expect(await readdir(at('shared'))).toEqual([])
    await node.ok(['mv', '/data/shared', '/data/shared2'])
    await mkdir(at('shared'))
    await shell('rmdir shared shared2', mount.dir)
  })

  it('lets a file be moved out and in again, with its attributes, without a complaint', async () => {
    await shell(`mkdir ${at('moving')} && echo content > ${at('moving/f')}`)
    expect(await shell(`mv ${at('moving')} ${folder}/out 2>&1 && mv ${folder}/out ${at('moved')} 2>&1 && cat ${at('moved/f')}`)).toBe(
      'content\n',
    )
  })

  it('tells what it does not do by the right errno', async () => {
    const tried = `
import os, errno
def kind(f):
    try:
        f()
        return 'done'
    except OSError as e:
        return errno.errorcode[e.errno]
os.chdir(${JSON.stringify(mount.dir)})
open('plain', 'w').close()
print(kind(lambda: os.link('plain', 'hard')), kind(lambda: os.mkfifo('pipe')), kind(lambda: os.mknod('device', 0o20600, os.makedev(1, 3))))
print(kind(lambda: os.mkdir('x' * 256)), kind(lambda: os.open(b'bad\\xff', os.O_CREAT | os.O_WRONLY)))
print(kind(lambda: os.rmdir('plain')), kind(lambda: os.unlink('tree')), kind(lambda: os.rmdir('tree')), kind(lambda: os.mkdir('tree')))
print(kind(lambda: os.setxattr('plain', 'user.nine.contentType', b'text/plain')), os.getxattr('plain', 'user.nine.contentType').decode())
print(kind(lambda: os.setxattr('plain', 'user.nine.version', b'9')), kind(lambda: os.setxattr('plain', 'user.other', b'9')), kind(lambda: os.getxattr('plain', 'user.other')))
print(sorted(os.listxattr('plain')), int(os.getxattr('plain', 'user.nine.version')) > 0)
print(kind(lambda: os.removexattr('plain', 'user.nine.contentType')), kind(lambda: os.listxattr('tree')))
`
    expect((await shell(`python3 - <<'P'\n${tried}\nP`)).trim().split('\n')).toEqual([
      'EPERM EPERM EPERM',
      'ENAMETOOLONG EILSEQ',
      'ENOTDIR EISDIR ENOTEMPTY EEXIST',
      'done text/plain',
      'ENOTSUP ENOTSUP ENODATA',
      "['user.nine.contentType', 'user.nine.modifiedBy', 'user.nine.revision', 'user.nine.version'] True",
      'EPERM done',
    ])
    expect(await node.ok(['--json', 'stat', '/data/plain'])).toContain('"contentType":"text/plain"')
  })

  it('lists a directory of many names', async () => {
    await shell('mkdir many && cd many && for i in $(seq 1500); do echo $i; done | xargs touch', mount.dir)
    expect(Number(await shell('ls many | wc -l', mount.dir))).toBe(1500)
    await shell('rm -r many', mount.dir)
  })
})

function seconds(begun: number, ended: number): string {
  return `${((ended - begun) / 1000).toFixed(2)} s`
}
