/** `npm run servers`: where a server that tests run beside the node is taken from, in which order, and what is said without one. */
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const script = join(import.meta.dirname, '..', '..', 'scripts', 'servers.mjs')
const cached = 'nats-server-v2.15.2'
let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nine-servers-'))
  // A PATH without Go, so that nothing is built here.
  for (const name of ['bin', 'packed', 'other']) mkdirSync(join(folder, name))
  for (const tool of ['sh', 'xz']) symlinkSync(whereIs(tool), join(folder, 'bin', tool))
})

afterEach(() => rmSync(folder, { recursive: true }))

describe('npm run servers', () => {
  it('takes one on PATH', () => {
    program(join(folder, 'other', 'nats-server'), 0)
    pack(0)
    const found = join(folder, 'other', 'nats-server')
    expect(servers(['nats-server'], [join(folder, 'other')])).toMatchObject({ status: 0, stdout: `nats-server ${found}\n` })
  })

  it('unpacks one into the cache of the user, once', () => {
    pack(0)
    const path = join(folder, 'cache', 'ninefold', 'servers', cached)
    expect(servers(['nats-server'])).toMatchObject({ status: 0, stdout: `nats-server ${path}\n` })
    expect(spawnSync(path).status).toBe(0)
    rmSync(join(folder, 'packed'), { recursive: true })
    expect(servers(['nats-server'])).toMatchObject({ status: 0, stdout: `nats-server ${path}\n`, stderr: '' })
  })

  it('keeps none that cannot be run here', () => {
    pack(1)
    const { status, stderr } = servers(['nats-server'])
    expect(status).toBe(1)
    expect(stderr).toContain('cannot be run here')
    expect(readdirSync(join(folder, 'cache', 'ninefold', 'servers'))).toEqual([])
  })

  it('says what is missing', () => {
    const { status, stdout, stderr } = servers(['nats-server', 'natz'])
    expect([status, stdout]).toEqual([1, ''])
    expect(stderr).toContain(`there is no ${join(folder, 'packed', 'nats-server.xz')} (NINE_SERVERS names the folder)`)
    expect(stderr).toContain('Go cannot be run')
    expect(stderr).toContain('natz: cannot be had: not one of nats-server, minio, consul')
  })
})

function servers(names: readonly string[], path: readonly string[] = []) {
  const env = {
    PATH: [...path, join(folder, 'bin')].join(delimiter),
    XDG_CACHE_HOME: join(folder, 'cache'),
    NINE_SERVERS: join(folder, 'packed'),
  }
  return spawnSync(process.execPath, [script, ...names], { encoding: 'utf8', env })
}

/** A program that ends with `status`. */
function program(file: string, status: number): void {
  writeFileSync(file, `#!/bin/sh\nexit ${status}\n`)
  chmodSync(file, 0o755)
}

function pack(status: number): void {
  const file = join(folder, 'packed', 'nats-server')
  program(file, status)
  expect(spawnSync('xz', [file]).status).toBe(0)
}

function whereIs(tool: string): string {
  return spawnSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).stdout.trim()
}
