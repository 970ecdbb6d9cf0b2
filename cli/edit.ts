/** nine edit: a file in the user's editor, saved with compare-and-set so that nobody's change is lost. */
import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isNineError, NineError } from '../namespace/errors.ts'
import type { IfMatch } from '../namespace/file-server.ts'
import { baseName, parsePath } from '../namespace/path.ts'
import type { Client } from '../sdk/client-api.ts'
import type { Output } from './output.ts'

/** On `conflict` the edited text stays in the file that the message names. */
export async function editFile(client: Client, path: string, output: Output): Promise<void> {
  const { text, ifMatch, mode } = await current(client, path)
  const folder = await mkdtemp(join(tmpdir(), 'nine-edit-'))
  const file = join(folder, baseName(parsePath(path)))
  await writeFile(file, text, { mode: 0o600 })
  await runEditor(file)
  const edited = await readFile(file)
  if (edited.equals(text)) {
    await rm(folder, { recursive: true })
    if (!output.isJson) await output.line(`${path}: unchanged`)
    return
  }
  try {
    await client.write(path, edited, { ifMatch, mode })
  } catch (error) {
    if (!isNineError(error)) throw error
    const why = error.kind === 'conflict' ? 'somebody else changed it meanwhile' : error.message
    throw new NineError({ kind: error.kind, op: 'cli.edit', path, message: `not saved: ${why}; your text is in ${file}`, cause: error })
  }
  await rm(folder, { recursive: true })
}

async function current(client: Client, path: string): Promise<{ text: Buffer; ifMatch: IfMatch; mode: number | undefined }> {
  try {
    const { bytes, stat } = await client.server.read(client.context(), parsePath(path))
    const text = stat.size === bytes.length ? bytes : await client.read(path)
    return { text: Buffer.from(text), ifMatch: { path: stat.qid.path, version: stat.version }, mode: stat.mode }
  } catch (error) {
    if (!isNineError(error, 'not_found')) throw error
    return { text: Buffer.alloc(0), ifMatch: 'none', mode: undefined }
  }
}

function runEditor(file: string): Promise<void> {
  const editor = process.env['VISUAL'] ?? process.env['EDITOR'] ?? 'vi'
  return new Promise((resolve, reject) => {
    // Through the shell, since EDITOR may hold arguments (`code --wait`).
    const child = spawn('/bin/sh', ['-c', `${editor} "$1"`, 'sh', file], { stdio: 'inherit' })
    const fail = (why: string): void =>
      reject(new NineError({ kind: 'invalid', op: 'cli.edit', message: `the editor ${editor} ${why}; your text is in ${file}` }))
    child.once('error', (error) => fail(error.message))
    child.once('exit', (code) => (code === 0 ? resolve() : fail(`ended with ${code ?? 'a signal'}`)))
  })
}
