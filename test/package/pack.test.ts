/** The package as npm packs it: what is in it, and that it installs and runs elsewhere. Needs `npm run build` before. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const run = promisify(execFile)
const root = join(import.meta.dirname, '..', '..')
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
let folder: string
let project: string
let files: string[]

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ninefold-pack-'))
  const packed = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], { cwd: root, maxBuffer: 1 << 26 })
  const [info] = JSON.parse(packed.stdout) as { filename: string; files: { path: string }[] }[]
  files = info!.files.map((file) => file.path)
  project = join(folder, 'project')
  await mkdir(project)
  await writeFile(join(project, 'package.json'), '{"name":"elsewhere","private":true,"type":"module"}')
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', join(folder, info!.filename)], { cwd: project })
}, 240_000)

afterAll(() => rm(folder, { recursive: true, force: true }))

describe('the package', () => {
  it('holds what runs, its types and its documents, and nothing else', () => {
    const strange = files.filter(
      (file) => !/^(dist\/.+\.(js|js\.map|d\.ts)|proto\/nine\/.+\.proto|proto\/README\.md|[A-Z]+\.md|LICENSE|package\.json)$/.test(file),
    )
    expect(strange).toEqual([])
    expect(files).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', 'dist/cli/nine.js']))
  })

  it('holds nothing that a former build left behind', () => {
    const stale = files
      .filter((file) => file.startsWith('dist/') && file.endsWith('.js'))
      .filter((file) => !existsSync(join(root, file.slice('dist/'.length).replace(/\.js$/, '.ts'))))
    expect(stale).toEqual([])
  })

  it('runs its command, and its node', async () => {
    expect(readFileSync(join(project, 'node_modules/ninefold/dist/cli/nine.js'), 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/)
    const nine = join(project, 'node_modules', '.bin', 'nine')
    expect((await run('npx', ['nine', '--version'], { cwd: project })).stdout.trim()).toContain(version)
    const ready = join(folder, 'ready')
    const child = spawn(
      nine,
      ['up', '--data', join(folder, 'data'), '--http', '127.0.0.1:0', '--grpc', '127.0.0.1:0', '--ready-file', ready],
      {
        cwd: project,
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    try {
      await once(child.stdout, 'data')
      const { grpc, tokenFile } = JSON.parse(readFileSync(ready, 'utf8')) as { grpc: string; tokenFile: string }
      const program = `
        import { connect, defineService, serve, computed } from 'ninefold'
        import * as client from 'ninefold/client'
        import * as server from 'ninefold/server'
        import { startNode } from 'ninefold/node'
        const service = await serve(defineService('here', { value: computed(() => 'served') }))
        const { client: one, close } = await connect()
        console.log(await one.readText('/svc/here/value'), client.connect === connect, server.serve === serve, typeof startNode)
        await close()
        await service.close()`
      await writeFile(join(project, 'program.mjs'), program)
      const env = { ...process.env, NINE_ADDR: grpc, NINE_TOKEN_FILE: tokenFile }
      expect((await run(process.execPath, ['program.mjs'], { cwd: project, env })).stdout).toBe('served true true function\n')
      const ended = once(child, 'exit')
      child.kill('SIGTERM')
      expect((await ended)[0]).toBe(0)
    } finally {
      child.kill('SIGKILL')
    }
  }, 60_000)

  it('has types that resolve, for a strict program', async () => {
    const text = `
      import { connect, isNineError, type Session, type Stat } from 'ninefold'
      import { Client } from 'ninefold/client'
      import { defineService, type ServiceDefinition } from 'ninefold/server'
      import { startNode, type RunningNode } from 'ninefold/node'
      export async function main(): Promise<Stat> {
        const session: Session = await connect({ address: '127.0.0.1:1' })
        const client: Client = session.client
        const service: ServiceDefinition = defineService('x', {})
        const node: RunningNode = await startNode({ data: '/x', http: '127.0.0.1:0', grpc: '127.0.0.1:0' })
        // @ts-expect-error a path is text
        await client.read(5)
        if (isNineError(service, 'denied')) await node.close()
        return client.stat('/')
      }`
    await writeFile(join(project, 'program.ts'), text)
    const compiler = { strict: true, noEmit: true, target: 'es2022', lib: ['es2023', 'esnext.disposable'], module: 'nodenext', skipLibCheck: false, types: ['node'], typeRoots: [join(root, 'node_modules/@types')] } // prettier-ignore
    await writeFile(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions: compiler, files: ['program.ts'] }))
    const checked = await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', project]).catch(
      (error: unknown) => error,
    )
    const ours = String((checked as { stdout: string }).stdout)
      .split('\n')
      .filter((line) => /^(program\.ts|.*ninefold\/)/.test(line))
    expect(ours).toEqual([])
  }, 120_000)

  it('brings no tool of development along', async () => {
    const installed = await readdir(join(project, 'node_modules'))
    for (const name of ['typescript', 'vitest', 'eslint', 'tsx']) expect(installed).not.toContain(name)
  })
})
