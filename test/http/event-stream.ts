/** Server-sent events as a stranger reads them: strictly by the standard, with what an EventSource keeps between connections. */
import { request } from 'node:http'
import type { ClientRequest, IncomingMessage } from 'node:http'

export interface SentEvent {
  /** `message` unless named. */
  readonly event: string
  readonly data: Record<string, unknown>
  /** As it stands after this event. */
  readonly lastEventId: string
  /** Whether an id stood on the event itself. */
  readonly hasId: boolean
}

export class EventStream {
  readonly status: number
  readonly response: IncomingMessage
  #lastEventId: string
  readonly #request: ClientRequest
  readonly #events: SentEvent[] = []
  #text = ''
  #isEnded = false
  #wake: (() => void) | undefined

  private constructor(sent: ClientRequest, response: IncomingMessage, lastEventId: string) {
    this.#request = sent
    this.response = response
    this.status = response.statusCode!
    this.#lastEventId = lastEventId
    response.setEncoding('utf8')
    response.on('data', (part: string) => this.#take(part))
    response.on('error', () => undefined)
    response.once('close', () => {
      this.#isEnded = true
      this.#wake?.()
    })
  }

  /** Open, and wait for the head of the answer. */
  static open(origin: string, token: string, target: string, lastEventId = ''): Promise<EventStream> {
    return new Promise((resolve, reject) => {
      const headers: Record<string, string> = { authorization: `Bearer ${token}` }
      if (lastEventId !== '') headers['last-event-id'] = lastEventId
      const sent = request(`${origin}/v1/fs${target}`, { headers, agent: false })
      sent.once('response', (response) => resolve(new EventStream(sent, response, lastEventId)))
      sent.on('error', reject)
      sent.end()
    })
  }

  /** The next event; undefined at the end. */
  async next(): Promise<SentEvent | undefined> {
    while (this.#events.length === 0 && !this.#isEnded) await new Promise<void>((resolve) => (this.#wake = resolve))
    return this.#events.shift()
  }

  async take(count: number): Promise<SentEvent[]> {
    const taken: SentEvent[] = []
    while (taken.length < count) {
      const event = await this.next()
      if (event === undefined) throw new Error(`the stream ended after ${taken.length} events`)
      taken.push(event)
    }
    return taken
  }

  /** Leave without a word. */
  cut(): void {
    this.#request.destroy()
  }

  #take(part: string): void {
    this.#text += part
    for (let end = this.#text.indexOf('\n\n'); end !== -1; end = this.#text.indexOf('\n\n')) {
      this.#dispatch(this.#text.slice(0, end).split('\n'))
      this.#text = this.#text.slice(end + 2)
    }
    this.#wake?.()
  }

  #dispatch(lines: readonly string[]): void {
    let event = 'message'
    let hasId = false
    const data: string[] = []
    for (const line of lines) {
      if (line.startsWith(':')) continue
      const colon = line.indexOf(': ')
      const [field, value] = [line.slice(0, colon), line.slice(colon + 2)]
      if (field === 'data') data.push(value)
      else if (field === 'event') event = value
      else if (field === 'id') {
        this.#lastEventId = value
        hasId = true
      } else throw new Error(`no field of an event: ${JSON.stringify(line)}`)
    }
    if (data.length === 0) return
    this.#events.push({ event, data: JSON.parse(data.join('\n')) as Record<string, unknown>, lastEventId: this.#lastEventId, hasId })
  }
}
