/** Rights: records on directories, and what a second principal may do under them. */
import { expect } from 'vitest'
import { allRights, type Right, type RightsRecord } from '../../../namespace/rights.ts'
import { bytesOf, fails, group, guest, textOf, Watching, type Group, type Tools } from './tools.ts'

function grantGuest(...rights: Right[]): RightsRecord {
  return [{ who: guest.name, rights }]
}

async function allow(t: Tools, relative: string, record: RightsRecord | undefined): Promise<void> {
  await t.server.setRights(t.context, t.at(relative), record)
}

export const rightsGroups: readonly Group[] = [
  group('rights', {
    'a stranger may nothing': async (t) => {
      await t.put('f', 'secret')
      await allow(t, '', [])
      const s = t.guestServer
      for (const operation of [
        s.stat(t.guest, t.at('f')),
        s.read(t.guest, t.at('f')),
        s.list(t.guest, t.at()),
        s.write(t.guest, t.at('f'), bytesOf('x')),
        s.write(t.guest, t.at('new'), bytesOf('x')),
        s.create(t.guest, t.at('new')),
        s.mkdir(t.guest, t.at('new')),
        s.symlink(t.guest, t.at('new'), 'x'),
        s.remove(t.guest, t.at('f')),
        s.rename(t.guest, t.at('f'), t.at('g')),
        s.setStat(t.guest, t.at('f'), { mode: 0o777 }),
        s.setRights(t.guest, t.at(), grantGuest('admin')),
        s.txn(t.guest, { if: [], then: [{ op: 'read', path: t.at('f') }], else: [] }),
      ]) {
        await fails(operation, 'denied')
      }
      expect(await t.text('f')).toBe('secret')
      expect(await t.names()).toEqual(['f'])
    },
    'a stranger is not told what exists': async (t) => {
      await t.put('f', 'secret')
      await allow(t, '', [])
      await fails(t.guestServer.stat(t.guest, t.at('f')), 'denied')
      await fails(t.guestServer.stat(t.guest, t.at('none')), 'denied')
      await fails(t.guestServer.stat(t.guest, t.at('f/below')), 'denied')
    },
    'each right allows its part': async (t) => {
      const s = t.guestServer
      await t.put('f', 'x')
      await allow(t, '', grantGuest('read'))
      expect(textOf((await s.read(t.guest, t.at('f'))).bytes)).toBe('x')
      await fails(s.list(t.guest, t.at()), 'denied')
      await fails(s.write(t.guest, t.at('f'), bytesOf('y')), 'denied')
      await allow(t, '', grantGuest('list'))
      expect((await s.list(t.guest, t.at())).entries.map((entry) => entry.name)).toEqual(['f'])
      await fails(s.read(t.guest, t.at('f')), 'denied')
      await allow(t, '', grantGuest('write', 'read'))
      await s.write(t.guest, t.at('f'), bytesOf('y'))
      await s.setStat(t.guest, t.at('f'), { mode: 0o600 })
      await fails(s.create(t.guest, t.at('g')), 'denied')
      await fails(s.remove(t.guest, t.at('f')), 'denied')
      await allow(t, '', grantGuest('create', 'list'))
      await s.create(t.guest, t.at('g'))
      await s.mkdir(t.guest, t.at('d'))
      await fails(s.remove(t.guest, t.at('g')), 'denied')
      await fails(s.rename(t.guest, t.at('g'), t.at('h')), 'denied')
      await allow(t, '', grantGuest('remove', 'list'))
      await s.remove(t.guest, t.at('g'))
      await fails(s.create(t.guest, t.at('g')), 'denied')
      await allow(t, '', grantGuest('remove', 'create', 'list'))
      await s.rename(t.guest, t.at('f'), t.at('h'))
      expect(await t.names()).toEqual(['d', 'h'])
    },
    'modifiedBy is who did it': async (t) => {
      await allow(t, '', grantGuest('create', 'write', 'read', 'list'))
      await t.guestServer.write(t.guest, t.at('f'), bytesOf('x'))
      expect(await t.stat('f')).toMatchObject({ modifiedBy: guest.name })
      await t.put('f', 'y')
      expect(await t.stat('f')).toMatchObject({ modifiedBy: t.context.principal.name })
    },
    'groups and everyone': async (t) => {
      await t.put('f', 'x')
      for (const who of [`group:${guest.groups[0]}`, '*', guest.name]) {
        await allow(t, '', [{ who, rights: ['read'] }])
        expect(textOf((await t.guestServer.read(t.guest, t.at('f'))).bytes)).toBe('x')
      }
      for (const who of ['group:others', 'someone', 'group:guest']) {
        await allow(t, '', [{ who, rights: ['read'] }])
        await fails(t.guestServer.read(t.guest, t.at('f')), 'denied')
      }
    },
    'entries add up': async (t) => {
      await t.put('f', 'x')
      await allow(t, '', [
        { who: '*', rights: ['list'] },
        { who: guest.name, rights: ['read'] },
      ])
      expect((await t.guestServer.list(t.guest, t.at())).entries.length).toBe(1)
      expect(textOf((await t.guestServer.read(t.guest, t.at('f'))).bytes)).toBe('x')
    },
    'rights inherit': async (t) => {
      await t.put('a/b/c/f', 'x', { parents: true })
      await allow(t, '', grantGuest('read'))
      expect(textOf((await t.guestServer.read(t.guest, t.at('a/b/c/f'))).bytes)).toBe('x')
      await allow(t, '', undefined)
      await fails(t.guestServer.read(t.guest, t.at('a/b/c/f')), 'denied')
    },
    'the nearest record decides alone': async (t) => {
      await t.put('a/open/f', 'x', { parents: true })
      await t.put('a/shut/f', 'x', { parents: true })
      await allow(t, '', [])
      await allow(t, 'a', grantGuest('read'))
      await allow(t, 'a/shut', grantGuest('list'))
      await allow(t, 'a/open', grantGuest('write'))
      await fails(t.guestServer.read(t.guest, t.at('a/shut/f')), 'denied')
      await fails(t.guestServer.read(t.guest, t.at('a/open/f')), 'denied')
      await t.guestServer.write(t.guest, t.at('a/open/f'), bytesOf('y'))
      await allow(t, 'a/shut', undefined)
      expect(textOf((await t.guestServer.read(t.guest, t.at('a/shut/f'))).bytes)).toBe('x')
    },
    'a record travels with rename': async (t) => {
      await t.put('in/shut/f', 'x', { parents: true })
      await allow(t, '', grantGuest('read', 'list'))
      await allow(t, 'in/shut', [])
      await t.server.rename(t.context, t.at('in/shut'), t.at('out'))
      await fails(t.guestServer.read(t.guest, t.at('out/f')), 'denied')
      await t.server.rename(t.context, t.at('out/f'), t.at('freed'))
      expect(textOf((await t.guestServer.read(t.guest, t.at('freed'))).bytes)).toBe('x')
    },
    'getRights tells the record, where it stands, and what is mine': async (t) => {
      await t.server.mkdir(t.context, t.at('a/b'), { parents: true })
      const record = grantGuest('read', 'list')
      await allow(t, 'a', record)
      const mine = await t.server.getRights(t.context, t.at('a/b'))
      expect(mine).toMatchObject({ record, on: t.at('a') })
      expect(mine.mine).toEqual(allRights)
      const theirs = await t.guestServer.getRights(t.guest, t.at('a/b'))
      expect(theirs).toMatchObject({ on: t.at('a'), mine: ['read', 'list'] })
      await allow(t, '', [])
      await allow(t, 'a', undefined)
      await fails(t.guestServer.getRights(t.guest, t.at('a/b')), 'denied')
    },
    'admin changes records, nobody else': async (t) => {
      await allow(t, '', grantGuest('read', 'list', 'write', 'create', 'remove'))
      await fails(t.guestServer.setRights(t.guest, t.at(), grantGuest('admin')), 'denied')
      await allow(t, '', grantGuest('admin', 'read'))
      await t.guestServer.setRights(t.guest, t.at(), grantGuest('read', 'list'))
      await fails(t.guestServer.setRights(t.guest, t.at(), undefined), 'denied')
    },
    'a bad record is refused': async (t) => {
      await t.put('f', 'x')
      const bad = [{ who: guest.name, rights: ['everything' as Right] }]
      await fails(t.server.setRights(t.context, t.at(), bad), 'invalid')
      await fails(t.server.setRights(t.context, t.at('f'), grantGuest('read')), 'not_directory')
      const many: RightsRecord = Array.from({ length: 257 }, (_, i) => ({ who: `p${i}`, rights: ['read'] as const }))
      await fails(t.server.setRights(t.context, t.at(), many), ['too_large', 'invalid'])
    },
    'lists are filtered': async (t) => {
      for (const name of ['open/f', 'shut/f', 'listed/f']) await t.put(name, 'x', { parents: true })
      await allow(t, '', grantGuest('read', 'list'))
      await allow(t, 'shut', [])
      await allow(t, 'listed', grantGuest('read'))
      const names = async (recursive: boolean): Promise<string[]> =>
        (await t.guestServer.list(t.guest, t.at(), { recursive })).entries.map((entry) => entry.name)
      expect(await names(false)).toEqual(['listed', 'open'])
      expect(await names(true)).toEqual(['listed', 'open', 'open/f'])
    },
    'watches are filtered': async (t) => {
      await t.put('shut/f', 'x', { parents: true })
      await t.put('open/f', 'x', { parents: true })
      await allow(t, '', grantGuest('read', 'list'))
      await allow(t, 'shut', [])
      const { position } = await t.server.stat(t.context, t.at())
      const batches = t.guestServer.watch({ ...t.guest, deadline: Infinity }, t.at(), { from: position, recursive: true })
      const watch = new Watching(batches, position)
      await t.put('shut/f', 'secret')
      await t.put('open/f', 'shown')
      await t.put('shut/g', 'secret')
      await t.put('open/g', 'shown')
      expect((await watch.events(2)).map((event) => event.path)).toEqual([t.at('open/f'), t.at('open/g')])
      await watch.close()
    },
    'a move out of sight is a removal, one into sight a creation': async (t) => {
      await t.put('open/f', 'x', { parents: true })
      await t.put('shut/g', 'x', { parents: true })
      await allow(t, '', grantGuest('read', 'list'))
      await allow(t, 'shut', [])
      const { position } = await t.server.stat(t.context, t.at())
      const batches = t.guestServer.watch({ ...t.guest, deadline: Infinity }, t.at(), { from: position, recursive: true })
      const watch = new Watching(batches, position)
      await t.server.rename(t.context, t.at('open/f'), t.at('shut/f'))
      await t.server.rename(t.context, t.at('shut/g'), t.at('open/g'))
      const [out, into] = await watch.events(2)
      expect(out).toMatchObject({ type: 'remove', path: t.at('open/f') })
      expect(out!.from).toBeUndefined()
      expect(into).toMatchObject({ type: 'create', path: t.at('open/g') })
      expect(into!.from).toBeUndefined()
      await watch.close()
    },
    'the past is filtered': async (t) => {
      const { position } = await t.put('f', 'secret')
      await allow(t, '', [])
      await fails(t.guestServer.read(t.guest, t.at('f'), { at: position }), 'denied')
    },
    'a handle needs the right': async (t) => {
      await t.put('f', 'x')
      await allow(t, '', grantGuest('read'))
      const { handle } = await t.guestServer.open(t.guest, t.at('f'), { read: true })
      expect(textOf((await t.guestServer.readHandle(t.guest, handle, 0, 10)).bytes)).toBe('x')
      await t.guestServer.closeHandle(t.guest, handle)
      await fails(t.guestServer.open(t.guest, t.at('f'), { read: true, write: true }), 'denied')
      await fails(t.guestServer.open(t.guest, t.at('new'), { write: true, create: true, mode: 'shared' }), 'denied')
    },
    'a handle of another is no handle': async (t) => {
      await t.put('f', 'x')
      await allow(t, '', grantGuest('read', 'write'))
      const { handle } = await t.server.open(t.context, t.at('f'), { read: true })
      await fails(t.guestServer.readHandle(t.guest, handle, 0, 10), ['invalid', 'denied', 'not_found'])
      await t.server.closeHandle(t.context, handle)
    },
  }),
]
