/**
 * Every order of a few operations, tried one after the other, on a model of its own: the slow and plain answer that the search
 * has to agree with.
 */
import { keysOf, roamingKeys, stepsTaken } from './history.ts'
import type { At, Match, Operation, Step, StepResult } from './history.ts'

interface File {
  readonly value: string
  readonly life: number
  readonly version: number
}

interface World {
  readonly files: ReadonlyMap<string, File>
  /** Used up, by file and number: that a life belongs to one file is looked at elsewhere. */
  readonly lives: ReadonlySet<string>
}

/** Whether some order explains them all. Only for histories of about ten operations. */
export function isExplained(operations: readonly Operation[]): boolean {
  const told = operations.some((operation) => JSON.stringify([operation.request, operation.result]).includes('"life"'))
  const lives = new Set<number>()
  JSON.stringify(operations, (name: string, value: unknown) => {
    if (name === 'life') lives.add(value as number)
    return value
  })
  // One unheard-of life for each operation and file that could need one.
  const fresh = operations.flatMap(({ request }) => keysOf(request)).map((_, index) => -1 - index)
  // Where files are renamed, who began a life is known for all keys alike.
  const begun = new Set<number>()
  if (roamingKeys(operations).size > 0) {
    for (const { step, result } of operations.flatMap((one) => stepsTaken(one))) {
      if (step.do !== 'read' && step.do !== 'rename' && step.do !== 'delete' && result?.was === 'done' && result.at?.version === 1)
        begun.add(result.at.life)
    }
  }
  return explained({ files: new Map(), lives: new Set() }, operations, told ? [...lives, ...fresh] : [0])

  function explained(world: World, left: readonly Operation[], all: readonly number[]): boolean {
    if (left.every(({ result }) => result === undefined)) return true
    const firstEnd = Math.min(...left.map(({ end }) => end))
    return left
      .filter(({ start }) => start <= firstEnd)
      .some((operation) => {
        const others = left.filter((other) => other !== operation)
        return after(world, operation, all).some((next) => explained(next, others, all))
      })
  }

  function after(world: World, { request, result }: Operation, all: readonly number[]): World[] {
    if (request.do === 'stale') return []
    const holds = request.do !== 'txn' || request.if.every(({ key, is }) => met(world.files.get(key), is))
    const steps = request.do === 'txn' ? (holds ? request.then : request.else) : [request]
    if (result === undefined) return run(world, steps, undefined, all)
    if (result.was === 'branch') return holds === (result.branch === 'then') ? run(world, steps, result.results, all) : []
    if (result.was !== 'refused') return run(world, steps, [result], all)
    if (request.do === 'txn') return run(world, steps, undefined, all).length === 0 ? [world] : []
    if (request.do === 'read') return []
    const file = world.files.get(request.key)
    const unmet = request.match !== undefined && !met(file, request.match)
    if (request.do === 'rename') {
      const kind = file === undefined ? 'not_found' : unmet ? 'conflict' : !request.replace && world.files.has(request.to) ? 'exists' : ''
      return kind === result.kind ? [world] : []
    }
    if (result.kind === 'exists') return []
    const isTrue = result.kind === 'conflict' ? unmet : file === undefined && (unmet || request.do === 'delete')
    return isTrue ? [world] : []
  }

  function run(world: World, steps: readonly Step[], results: readonly StepResult[] | undefined, all: readonly number[]): World[] {
    return steps.reduce<World[]>((worlds, step, index) => worlds.flatMap((one) => runOne(one, step, results?.[index], all)), [world])
  }

  function runOne(world: World, step: Step, result: StepResult | undefined, all: readonly number[]): World[] {
    const file = world.files.get(step.key)
    if (step.do === 'read') {
      if (result?.was === 'missing') return file === undefined ? [world] : []
      if (file === undefined || (result !== undefined && (result.was !== 'read' || result.value !== file.value))) return []
      return result?.at === undefined || met(file, result.at) ? [world] : []
    }
    if (result !== undefined && result.was !== 'done') return []
    if (step.match !== undefined && !met(file, step.match)) return []
    const files = new Map(world.files)
    if (step.do === 'delete') {
      if (file === undefined || (result?.at !== undefined && !met(file, result.at))) return []
      files.delete(step.key)
      return [{ ...world, files }]
    }
    if (step.do === 'rename') {
      if (file === undefined || (result?.at !== undefined && !met(file, result.at)) || (!step.replace && files.has(step.to))) return []
      files.delete(step.key)
      return [{ ...world, files: files.set(step.to, file) }]
    }
    const value = step.do === 'append' ? (file?.value ?? '') + step.value : step.value
    const version = told ? (file?.version ?? 0) + 1 : 0
    const possible = file === undefined ? all.filter((life) => !told || !world.lives.has(`${step.key} ${life}`)) : [file.life]
    return possible
      .filter((life) => file !== undefined || result?.at !== undefined || !begun.has(life))
      .filter((life) => result?.at === undefined || (result.at.life === life && result.at.version === version))
      .map((life) => ({
        files: new Map(files).set(step.key, { value, life, version }),
        lives: new Set(world.lives).add(`${step.key} ${life}`),
      }))
  }
}

function met(file: File | undefined, is: Match | At): boolean {
  if (is === 'none') return file === undefined
  return file !== undefined && (is === 'exists' || (file.life === is.life && file.version === is.version))
}
