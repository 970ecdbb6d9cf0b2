/** bind, mount, unmount, ns, rights, svc, token: who sees what, and who may do what. */
import type { Command } from 'commander'
import { isNineError, NineError } from '../../namespace/errors.ts'
import { mutationToJson, statToJson } from '../../namespace/json.ts'
import { allRights } from '../../namespace/rights.ts'
import type { Right, RightsEntry, RightsRecord } from '../../namespace/rights.ts'
import type { MountOrder } from '../../sdk/session.ts'
import { shown } from '../render/long.ts'
import { pathArgument } from '../working-directory.ts'
import { action } from './command.ts'
import type { Run } from './command.ts'

/** @param isShell in `nine shell` binds last as long as the shell; outside they are saved */
export function spaceCommands(program: Command, isShell: boolean): void {
  const saved = isShell ? ' (for as long as this shell lives)' : ' (saved in your namespace file)'
  const ordered = (command: Command): Command =>
    command
      .option('-b, --before', 'before what is there: found first')
      .option('-a, --after', 'after what is there: found last')
      .option('-c, --create', 'new files go here')
  ordered(
    program
      .command('bind')
      .description(`show one path at another as well${saved}`)
      .argument('<new>', 'what to show')
      .argument('<old>', 'where'),
  )
    .addHelpText('after', '\nExample:\n  nine bind -b /data/overrides /data/config')
    .action(
      action((run, from: string, to: string, flags: OrderFlags) =>
        edit(run, isShell, ['bind', pathArgument(from), pathArgument(to)], flags),
      ),
    )
  ordered(
    program
      .command('mount')
      .description(`mount a service or another node's tree${saved}`)
      .argument('<source>', 'a service, nine://HOST:PORT[/PATH] or 9p://[USER@]HOST[:PORT][/ANAME]')
      .argument('<path>', 'where'),
  )
    .option('--source-token-file <file>', 'the token for the other node, for all mounts of it; kept below /usr/YOU/tokens')
    .addHelpText(
      'after',
      '\nExamples:\n  nine mount clock /time\n  nine mount nine://10.0.0.2:9581/data /other --source-token-file other.token\n  nine mount 9p://10.0.0.3:564/export /n/other',
    )
    .action(action(mount(isShell)))
  program
    .command('unmount')
    .description(`undo a bind or mount${saved}`)
    .argument('<path>', 'where it is')
    .action(action((run, path: string) => edit(run, isShell, ['unmount', pathArgument(path)], {})))
  program.command('ns').description('show the mounts and binds of your namespace').action(action(ns))
  program
    .command('rights')
    .description('show or set who may do what below a directory')
    .argument('<path>', 'directory')
    .argument('[entry...]', `WHO=RIGHT,… with ${allRights.join(' ')} or all or none; WHO is a principal, group:NAME or *`)
    .option('--clear', 'take the record of this directory away, so that its parents decide again')
    .addHelpText(
      'after',
      '\nExamples:\n  nine rights /data/team\n  nine rights /data/team ann=all group:dev=read,list\n  nine rights /data/team --clear',
    )
    .action(action(rights))
  program.command('svc').description('show the services of this node').action(action(services))
  const token = program.command('token').description('principals of this node, or of its cluster, and their tokens')
  token
    .command('create')
    .description('make a principal, or a new token for one; prints the token')
    .argument('<name>', 'principal')
    .option('-g, --group <name...>', 'groups it is in')
    .action(action(createToken))
  token.command('ls').description('show the principals').action(action(listTokens))
  token.command('revoke').description("end a principal's token").argument('<name>', 'principal').action(action(revokeToken))
}

interface OrderFlags {
  readonly before?: boolean
  readonly after?: boolean
  readonly create?: boolean
}

function orderOf({ before, after }: OrderFlags): MountOrder {
  if (before === true && after === true)
    throw new NineError({ kind: 'invalid', op: 'cli.options', message: '-b and -a exclude each other' })
  return before === true ? 'before' : after === true ? 'after' : 'replace'
}

type Line = readonly ['bind', string, string] | readonly ['mount', string, string] | readonly ['unmount', string]

/** Do it in this session, which also finds what is wrong with it; then, outside a shell, keep it. */
async function edit({ session }: Run, isShell: boolean, line: Line, flags: OrderFlags): Promise<void> {
  const options = { order: orderOf(flags), create: flags.create === true }
  if (line[0] === 'unmount') await session.namespace.unmount(line[1])
  else if (line[0] === 'bind') await session.namespace.bind(line[1], line[2], options)
  else await session.namespace.mount(line[1], line[2], options)
  if (isShell) return
  const switches = [options.order === 'before' ? '-b' : options.order === 'after' ? '-a' : '', options.create ? '-c' : ''].filter(
    (text) => text !== '',
  )
  const [verb, ...paths] = line
  await session.namespace.save([verb, ...switches, ...paths.map(quote)].join(' '))
}

/** As namespace files read it back. */
function quote(text: string): string {
  return /[\s#'"]/.test(text) ? `'${text.replaceAll("'", "''")}'` : text
}

function mount(isShell: boolean) {
  return async (run: Run, source: string, path: string, flags: OrderFlags & { readonly sourceTokenFile?: string }): Promise<void> => {
    const { sourceTokenFile } = flags
    const restore = sourceTokenFile === undefined ? undefined : await keepToken(run, source, sourceTokenFile)
    try {
      await edit(run, isShell, ['mount', source, pathArgument(path)], flags)
    } catch (error) {
      await restore?.()
      throw error
    }
  }
}

/** The other node's token goes where this node looks for it: a file of the user's own that nobody else may read. Gives what undoes it. */
async function keepToken({ session }: Run, source: string, file: string): Promise<() => Promise<void>> {
  const host = /^(?:nine|9p):\/\/(?:[^/@]*@)?([^/]+)/.exec(source)?.[1]
  if (host === undefined) throw new NineError({ kind: 'invalid', op: 'cli.mount', message: 'a token goes with a nine:// or 9p:// source' })
  const { readFile } = await import('node:fs/promises')
  const { client } = session
  const token = (await readFile(file, 'utf8')).trim()
  const path = `/usr/${client.principal.name}/tokens/${host}`
  const before = await client.readText(path).catch((error: unknown) => {
    if (isNineError(error, 'not_found')) return undefined
    throw error
  })
  await client.write(path, token, { parents: true, mode: 0o600 })
  return async () => {
    if (before === undefined) await client.remove(path)
    else await client.write(path, before)
  }
}

async function ns({ session, output }: Run): Promise<void> {
  for (const row of await session.namespace.entries()) {
    if (output.isJson) await output.json(row)
    else await output.line(shown(output, row.text))
  }
}

async function rights(run: Run, text: string, entries: string[], { clear }: { readonly clear?: boolean }): Promise<void> {
  const { session, output } = run
  const path = pathArgument(text)
  if (clear === true || entries.length > 0) {
    const result = await session.client.setRights(path, clear === true ? undefined : await mergedRecord(run, path, entries))
    if (output.isJson) await output.json(mutationToJson(result))
    return
  }
  const { record, on, mine } = await session.client.rights(path)
  if (output.isJson) await output.json({ path, on, record, mine })
  else {
    await output.line(record === undefined ? 'no record: the owner of the store alone' : `record on ${on}`)
    for (const entry of record ?? [])
      await output.line(`  ${entry.who}=${entry.rights.length === allRights.length ? 'all' : entry.rights.join(',') || 'none'}`)
    await output.line(`you may: ${mine.join(', ') || 'nothing'}`)
  }
}

/** The record that stands on the directory itself, with the given entries in place of those of the same names. */
async function mergedRecord({ session }: Run, path: string, entries: string[]): Promise<RightsRecord> {
  const { record, on } = await session.client.rights(path)
  const merged = new Map<string, RightsEntry>((on === path ? (record ?? []) : []).map((entry) => [entry.who, entry]))
  for (const entry of entries.map(parseEntry)) {
    if (entry.rights.length === 0) merged.delete(entry.who)
    else merged.set(entry.who, entry)
  }
  return [...merged.values()]
}

function parseEntry(text: string): RightsEntry {
  const match = /^([^=]+)=([a-z,]*)$/.exec(text)
  const words = match?.[2] === 'all' ? [...allRights] : match?.[2] === 'none' || match?.[2] === '' ? [] : (match?.[2]?.split(',') ?? [])
  if (match === null || !words.every((word) => (allRights as readonly string[]).includes(word))) {
    throw new NineError({
      kind: 'invalid',
      op: 'cli.rights',
      message: `${JSON.stringify(text)} is not WHO=RIGHT,… with ${allRights.join(' ')}, all or none`,
    })
  }
  return { who: match[1]!, rights: words as Right[] }
}

async function services({ session, output }: Run): Promise<void> {
  const { client } = session
  for await (const stat of client.list('/svc')) {
    if (output.isJson) {
      await output.json(statToJson(stat))
      continue
    }
    let names: string
    try {
      names = (await client.listAll(`/svc/${stat.name}`)).entries.map((entry) => entry.name).join(' ')
    } catch (error) {
      if (!isNineError(error)) throw error
      names = `(${error.kind}: ${error.message})`
    }
    await output.line(shown(output, `${stat.name.padEnd(20)} ${names}`))
  }
}

async function createToken({ session, output }: Run, name: string, { group }: { readonly group?: string[] }): Promise<void> {
  const { token, late } = (await session.control('token.create', { name, groups: group ?? [] })) as { token: string; late?: string[] }
  if (output.isJson) await output.json({ name, groups: group ?? [], token })
  else await output.line(token)
  warnLate(late)
}

async function revokeToken({ session }: Run, name: string): Promise<void> {
  warnLate(((await session.control('token.revoke', { name })) as { late?: string[] }).late)
}

/** @param late nodes that could not be told yet */
function warnLate(late: readonly string[] = []): void {
  if (late.length === 0) return
  process.stderr.write(`nine: warning: ${late.join(', ')} could not be reached, and will hear of it when that is possible again\n`)
}

async function listTokens({ session, output }: Run): Promise<void> {
  const { principals } = (await session.control('token.list', {})) as { principals: { name: string; groups: string[]; isOwner: boolean }[] }
  for (const row of principals) {
    if (output.isJson) await output.json(row)
    else
      await output.line(
        [row.name, row.isOwner ? 'owner' : '', ...row.groups.map((name) => `group:${name}`)].filter((text) => text !== '').join(' '),
      )
  }
}
