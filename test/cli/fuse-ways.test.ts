/** Which way a mount goes on machines that have this or that, and what is said where none is. */
import { describe, expect, it, vi } from 'vitest'
import { mountFuse } from '../../cli/fuse/bridge.ts'
import { chooseWay } from '../../cli/fuse/choose.ts'
import type { Via } from '../../cli/fuse/choose.ts'
import { thisMachine } from '../../cli/fuse/host.ts'
import type { Host } from '../../cli/fuse/host.ts'
import { kernelArguments } from '../../cli/fuse/kernel.ts'
import { checkMountPoint, unmounted } from '../../cli/fuse/mount-point.ts'
import type { MountRequest } from '../../cli/fuse/mount.ts'
import type { Binding } from '../../cli/fuse/native.ts'
import { contextFor } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import { Client } from '../../sdk/client-api.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'

/** A machine that has everything, but for what a test takes away. */
function machine(without: Partial<Host> & { readonly filesystems?: string } = {}): Host {
  const { filesystems = 'nodev\tfuse\n\tfuseblk\n', ...rest } = without
  return {
    platform: 'linux',
    readText: (file) => (file === '/proc/filesystems' ? filesystems : ''),
    isAccessible: () => true,
    hasProgram: () => true,
    run: async () => ({ code: 0, stderr: '' }),
    loadBinding: () => ({}) as Binding,
    ...rest,
  }
}

function refusal(host: Host, via: Via = 'auto', address?: string): string {
  try {
    chooseWay(host, via, address, () => undefined)
  } catch (error) {
    if (isNineError(error)) return `${error.kind}: ${error.message}`
    throw error
  }
  return 'none'
}

function loaderError(message: string, code: string): Error {
  return Object.assign(new Error(message), { code })
}

describe('what is missing', () => {
  it('is said with how to get it', () => {
    expect(refusal(machine())).toBe('none')
    expect(refusal(machine({ platform: 'darwin' }))).toMatch(/^unsupported: .*this is darwin/)
    expect(refusal(machine({ isAccessible: (file) => file !== '/dev/fuse' }))).toMatch(
      /^unsupported: .*\/dev\/fuse is missing.*modprobe fuse/,
    )
    expect(refusal(machine({ filesystems: 'nodev\tproc\n' }))).toMatch(/^unsupported: .*modprobe fuse/)
    expect(refusal(machine({ hasProgram: (name) => !name.startsWith('fusermount') }))).toMatch(/^unsupported: .*install fuse3/)
    const noLibrary = loaderError('libfuse.so.2: cannot open shared object file: No such file or directory', 'ERR_DLOPEN_FAILED')
    expect(refusal(machine({ loadBinding: () => fail(noLibrary) }))).toMatch(/^unsupported: .*install libfuse2/)
    const noPackage = loaderError("Cannot find module 'fuse-native/package.json'", 'MODULE_NOT_FOUND')
    expect(refusal(machine({ loadBinding: () => fail(noPackage) }))).toMatch(/^unsupported: .*npm install fuse-native@2\.2\.6/)
    const noBuild = new Error('No native build was found for platform=linux arch=arm64\nloaded from: x')
    expect(refusal(machine({ loadBinding: () => fail(noBuild) }))).toMatch(
      /^unsupported: .*does not work here: No native build was found for platform=linux arch=arm64; and/,
    )
  })

  it('of the kernel’s client is said too', () => {
    expect(refusal(machine(), '9p', '/run/nine.sock')).toMatch(/^unsupported: .*modprobe 9p/)
    const kernel = machine({ filesystems: 'nodev\t9p\n' })
    expect(refusal(kernel, '9p')).toMatch(/^unsupported: .*no 9P address.*--9p-unix FILE/)
    expect(refusal(kernel, 'fuse', '/run/nine.sock')).toMatch(/^unsupported: .*modprobe fuse/)
    expect(refusal(kernel, 'auto', '/run/nine.sock')).toBe('none')
  })
})

describe('the kernel’s client', () => {
  const request = (options: Partial<MountRequest> = {}): MountRequest => ({
    client: new Client(new MemoryServer({ owner: 'ann' }), { name: 'ann', groups: [] }),
    path: parsePath('/data/x y'),
    folder: '/mnt/nine',
    isReadOnly: false,
    isForOthers: false,
    isDirect: false,
    timeoutMs: 1000,
    ...options,
  })

  it('is preferred where it and an address are, and asked for through mount(8)', async () => {
    const ran: (readonly string[])[] = []
    const host = machine({
      filesystems: 'nodev\t9p\nnodev\tfuse\n',
      run: async (program, args) => {
        ran.push([program, ...args])
        return { code: 0, stderr: '' }
      },
      readText: (file) => (file === '/proc/filesystems' ? 'nodev\t9p\n' : '1 2 0:3 / /mnt/nine rw - 9p /run/nine.sock rw\n'),
    })
    const mount = await chooseWay(host, 'auto', '/run/nine.sock', () => undefined)(request())
    expect(mount.via).toBe('9p')
    expect(await mount.end()).toEqual([])
    const uid = process.getuid!()
    expect(ran).toEqual([
      [
        'mount',
        '-t',
        '9p',
        '-o',
        `trans=unix,version=9p2000.L,msize=1048576,uname=ann,aname=/data/x y,cache=none,access=${uid}`,
        '/run/nine.sock',
        '/mnt/nine',
      ],
      ['umount', '/mnt/nine'],
    ])
  })

  it('is given TCP addresses, and never what it cannot carry', () => {
    expect(kernelArguments('127.0.0.1:9564', request({ isReadOnly: true, isForOthers: true }))).toEqual([
      '-t',
      '9p',
      '-o',
      'trans=tcp,port=9564,version=9p2000.L,msize=1048576,uname=ann,aname=/data/x y,cache=none,access=any,ro',
      '127.0.0.1',
      '/mnt/nine',
    ])
    expect(() => kernelArguments('somewhere', request())).toThrow(/HOST:PORT or the file of a Unix socket/)
    for (const name of ['a,ro', 'a"', 'a\\']) {
      expect(() => kernelArguments('/s', request({ path: parsePath(`/data/${name}`) }))).toThrow(/comma/)
    }
    const client = new Client(new MemoryServer({ owner: 'ann' }), { name: 'ann,access=any', groups: [] })
    expect(() => kernelArguments('/s', request({ client }))).toThrow(/comma/)
  })

  it('says what mount said', async () => {
    const host = machine({ filesystems: 'nodev\t9p\n', run: async () => ({ code: 32, stderr: 'mount: /mnt/nine: permission denied.\n' }) })
    await expect(chooseWay(host, '9p', '/s', () => undefined)(request())).rejects.toMatchObject({
      kind: 'unsupported',
      message: 'mount -t 9p on /mnt/nine failed: mount: /mnt/nine: permission denied.',
    })
  })
})

describe('the end of a mount through FUSE', () => {
  it('publishes what is open even where the folder cannot be unmounted, and tells both', async () => {
    const server = new MemoryServer({ owner: 'ann' })
    await server.write(contextFor(ann), parsePath('/x'), Buffer.from('x'))
    const closed: number[] = []
    const watched = new Proxy(server, {
      get: (target, name) => {
        if (name === 'closeHandle') return (_context: unknown, handle: number) => Promise.reject(fullDisk(closed, handle))
        const value: unknown = Reflect.get(target, name)
        return typeof value === 'function' ? (value.bind(target) as unknown) : value
      },
    })
    const opened = new Promise<number>((resolve) => {
      native.fuse_native_signal_open = (_request: unknown, result: number) => resolve(result)
    })
    const host = machine({
      readText: () => '1 2 0:3 / /mnt/nine rw - fuse.nine ninefold rw\n',
      run: async () => ({ code: 1, stderr: 'not permitted' }),
      loadBinding: () => native,
    })
    const said: string[] = []
    const request = { client: new Client(watched, ann), path: parsePath('/'), folder: '/mnt/nine', timeoutMs: 1000 }
    const mount = await mountFuse(
      host,
      native,
      'fusermount',
      { ...request, isReadOnly: false, isForOthers: false, isDirect: false },
      (line) => said.push(line),
    )
    handlers[1]!(Buffer.alloc(0), 1, '/x', 2)
    expect(await opened).toBe(0)
    await expect(mount.end()).rejects.toMatchObject({ kind: 'internal', message: '/mnt/nine could not be unmounted: not permitted' })
    expect(closed.length).toBe(1)
    expect(said).toEqual(['what was last written to /x could not be published'])
  })
})

const ann = { name: 'ann', groups: [] }
let handlers: readonly ((request: Buffer, op: number, ...args: unknown[]) => void)[] = []
/** A binding whose kernel asks what a test asks. */
const native: Binding & Record<string, unknown> = {
  sizeof_fuse_thread_t: 8,
  op_init: 0,
  op_open: 1,
  fuse_native_signal_init: () => undefined,
  fuse_native_mount: (_directory, _options, _thread, _self, _allocate, all) => {
    handlers = all
    all[0]!(Buffer.alloc(0), 0)
  },
  fuse_native_unmount: () => undefined,
}

function fullDisk(closed: number[], handle: number): NineError {
  closed.push(handle)
  return new NineError({ kind: 'no_space', op: 'test', message: 'full' })
}

describe('a mount point', () => {
  it('is gone when it is missed twice, not when one look at the mounts fails', async () => {
    vi.useFakeTimers()
    try {
      const there = '1 2 0:3 / /mnt/nine rw - fuse.nine ninefold rw\n'
      const looks = [there, undefined, there, '', there, '', '']
      let isGone = false
      void unmounted(machine({ readText: () => looks.shift() }), '/mnt/nine').then(() => (isGone = true))
      await vi.advanceTimersByTimeAsync(6 * limits.mount_check_ms)
      expect(isGone).toBe(false)
      await vi.advanceTimersByTimeAsync(limits.mount_check_ms)
      expect(isGone).toBe(true)
    } finally {
      vi.useRealTimers()
    }
  })

  it('is found among mounts with odd names', async () => {
    const host: Host = { ...thisMachine, readText: () => '1 2 0:3 / /proc\\040x rw - fuse.nine ninefold rw\n' }
    await expect(checkMountPoint(host, '/proc')).rejects.toMatchObject({ kind: 'exists' })
  })
})

function fail(error: Error): never {
  throw error
}
