/** Histories as people read them: one operation a line, beside a bar that shows when it was under way. */
import type { At, Match, Operation, Request, Result, Step, StepResult } from './history.ts'
import type { Counterexample } from './shrink.ts'

const bar_columns = 36
const value_chars_max = 40
const lines_max = 24
const order_shown = 8

export function printCounterexample(keys: readonly string[], total: number, { operations, found }: Counterexample): string {
  const { order, stuck, state } = found
  const last = order.slice(-order_shown)
  // What is at the end of the road, what led there, and what left a trace in either; the others are only counted.
  const isNear = new Set([...stuck, ...last].map(numberOf))
  const answers = JSON.stringify([...stuck, ...last].map(({ request, result }) => [request, result]))
  const isTraced = (one: Operation): boolean =>
    stepsIn(one.request).some((step) => 'value' in step && answers.includes(JSON.stringify(step.value)))
  const near = operations.filter((one) => isNear.has(numberOf(one)) || isTraced(one)).toSorted((a, b) => a.start - b.start)
  return [
    `no order explains these ${total} operations on ${keys.slice(0, 8).join(', ')}${keys.length > 8 ? ', ...' : ''}; of them`,
    '',
    printTimeline(near.slice(-lines_max)),
    ...(total > near.length ? [`  (and ${total - near.length} others)`] : []),
    '',
    `An order that fits ends with ${last.map(numberOf).join(' ') || 'nothing'} and leaves ${state || 'nothing'};`,
    `then one of these has to come, and none can: ${stuck.map(numberOf).join(' ')}`,
  ].join('\n')
}

export function printTimeline(operations: readonly Operation[]): string {
  const ticks = operations.flatMap(({ start, end }) => (end === Infinity ? [start] : [start, end]))
  const order = new Map([...new Set(ticks)].sort((a, b) => a - b).map((tick, index) => [tick, index]))
  const scale = (tick: number): number => Math.round(((order.get(tick) ?? 0) * (bar_columns - 1)) / Math.max(1, order.size - 1))
  const rows = operations.map((operation) => {
    const { client, start, end, request, startMs } = operation
    const from = scale(start)
    const to = end === Infinity ? bar_columns : scale(end)
    const middle = (end === Infinity ? '~' : '-').repeat(Math.max(0, to - from - 1))
    const bar = `${' '.repeat(from)}[${middle}${end === Infinity ? '' : ']'}`.padEnd(bar_columns + 1)
    return [
      numberOf(operation),
      client,
      startMs === undefined ? '' : `${startMs} ms`,
      bar,
      `${printRequest(request)}  ${printAnswer(operation)}`,
    ]
  })
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' ')}`.trimEnd()).join('\n')
}

export function printRequest(request: Request): string {
  if (request.do === 'stale') return `stale read ${request.key}${request.min === undefined ? '' : ` at least revision ${request.min}`}`
  if (request.do !== 'txn') return printStep(request)
  const conditions = request.if.map(({ key, is }) => `${key} ${printMatch(is)}`).join(' and ')
  const branch = (steps: readonly Step[]): string => (steps.length === 0 ? 'nothing' : steps.map(printStep).join(', '))
  if (conditions === '') return `txn {${branch(request.then)}}`
  return `txn if ${conditions} {${branch(request.then)}}${request.else.length > 0 ? ` else {${branch(request.else)}}` : ''}`
}

function stepsIn(request: Request): readonly Step[] {
  if (request.do === 'txn') return [...request.then, ...request.else].filter((step) => step.do !== 'read')
  return request.do === 'stale' ? [] : [request]
}

function printStep(step: Step): string {
  if (step.do === 'rename') {
    return `rename ${step.key} to ${step.to}${step.replace ? '' : ' (free)'}${step.match === undefined ? '' : ` if ${printMatch(step.match)}`}`
  }
  const value = 'value' in step ? ` ${printValue(step.value)}` : ''
  return `${step.do} ${step.key}${value}${'match' in step && step.match !== undefined ? ` if ${printMatch(step.match)}` : ''}`
}

function printMatch(match: Match): string {
  return match === 'none' ? 'missing' : match === 'exists' ? 'there' : printAt(match)
}

function printAt({ life, version }: At): string {
  return `file ${life} v${version}`
}

function printAnswer({ result, note }: Operation): string {
  if (result === undefined) return `=> ? ${note ?? 'not answered'}`
  return `=> ${printResult(result)}${result.revision === undefined ? '' : `, revision ${result.revision}`}`
}

function printResult(result: Result): string {
  if (result.was === 'refused') return result.kind
  if (result.was === 'branch') return `${result.branch}: ${result.results.map(printStepResult).join(', ')}`
  return printStepResult(result)
}

function printStepResult(result: StepResult): string {
  if (result.was === 'missing') return 'missing'
  const at = result.at === undefined ? '' : ` (${printAt(result.at)})`
  return `${result.was === 'read' ? printValue(result.value) : 'done'}${at}`
}

/** The end tells more than the beginning: appends go there. */
function printValue(value: string): string {
  return JSON.stringify(value.length > value_chars_max ? `...${value.slice(-value_chars_max)}` : value)
}

export function numberOf({ id }: Operation): string {
  return `#${id}`
}
