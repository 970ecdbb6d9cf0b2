/**
 * Real servers that tests and benchmarks run beside the node: found on PATH, else in the user's cache, else unpacked from a folder of
 * NAME.xz, else built with Go from the module proxy at a pinned version. They are never part of the package.
 *
 *     npm run -s servers [-- NAME...]      prints `NAME PATH` for each; ends with 1 and what to do when one cannot be had
 *
 * NINE_SERVERS names the folder of packed ones; by default shared/servers beside the repository, where there is one.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

const servers = {
  'nats-server': { module: 'github.com/nats-io/nats-server/v2', version: 'v2.15.2' },
  minio: { module: 'github.com/minio/minio', version: 'v0.0.0-20260212201848-7aac2a2c5b7c' },
  // Its nested modules are not in the checksum database.
  consul: { module: 'github.com/hashicorp/consul', version: 'v1.22.0', env: { GONOSUMDB: 'github.com/hashicorp' } },
}

const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'ninefold', 'servers')
const packed = resolve(process.env['NINE_SERVERS'] || join(import.meta.dirname, '..', '..', 'shared', 'servers'))

const asked = process.argv.slice(2)
let missing = 0
for (const name of asked.length === 0 ? Object.keys(servers) : asked) {
  const found = Object.hasOwn(servers, name) ? have(name, servers[name]) : { reason: `not one of ${Object.keys(servers).join(', ')}` }
  if (found.path !== undefined) console.log(`${name} ${found.path}`)
  else {
    missing++
    console.error(`${name}: cannot be had: ${found.reason}`)
  }
}
process.exitCode = missing === 0 ? 0 : 1

/** @returns {{ path: string } | { reason: string }} */
function have(name, server) {
  const onPath = spawnSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).stdout.trim()
  if (onPath !== '') return { path: onPath }
  const path = join(cache, `${name}-${server.version}`)
  if (existsSync(path)) return { path }
  mkdirSync(cache, { recursive: true })
  // Made aside and moved into place: two that make it at once do not meet.
  const work = mkdtempSync(join(cache, 'making-'))
  try {
    const made = join(work, name)
    const reasons = []
    for (const make of [unpack, build]) {
      const reason = make(name, server, work, made) ?? cannotRun(made)
      if (reason === undefined) {
        renameSync(made, path)
        return { path }
      }
      reasons.push(reason)
    }
    return { reason: `it is not on PATH; ${reasons.join('; ')}` }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** @returns {string | undefined} why not */
function unpack(name, _server, _work, made) {
  const file = join(packed, `${name}.xz`)
  if (!existsSync(file)) return `there is no ${file} (NINE_SERVERS names the folder)`
  console.error(`${name}: unpacking ${file}`)
  const out = openSync(made, 'w', 0o755)
  const { status, error, stderr } = spawnSync('xz', ['-dc', file], { stdio: ['ignore', out, 'pipe'] })
  closeSync(out)
  if (error !== undefined) return `xz cannot be run (Debian: xz-utils): ${error.message}`
  return status === 0 ? undefined : `${file} cannot be unpacked: ${stderr.toString().trim()}`
}

/** @returns {string | undefined} why not */
function build(name, { module, version, env }, work, made) {
  console.error(`${name}: building ${module} ${version} with Go; takes minutes`)
  writeFileSync(join(work, 'go.mod'), `module servers\n\ngo 1.23\n\nrequire ${module} ${version}\n`)
  const options = {
    cwd: work,
    stdio: ['ignore', 'inherit', 'pipe'],
    env: { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=mod -buildvcs=false', ...env },
  }
  const { status, error, stderr } = spawnSync('go', ['build', '-trimpath', '-ldflags', '-s -w', '-o', made, module], options)
  if (error !== undefined) return `Go cannot be run (https://go.dev/dl): ${error.message}`
  return status === 0 ? undefined : `go build failed: ${stderr.toString().trim().split('\n').slice(-5).join(' | ')}`
}

/** Made for another machine, say. */
function cannotRun(made) {
  const { status, error } = spawnSync(made, ['--version'], { stdio: 'ignore' })
  return status === 0 ? undefined : `what was made cannot be run here: ${error?.message ?? `it ended with ${status}`}`
}
