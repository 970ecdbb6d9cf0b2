/**
 * OpenTelemetry traces, when its standard variables ask for them (OTEL_EXPORTER_OTLP_ENDPOINT or
 * OTEL_EXPORTER_OTLP_TRACES_ENDPOINT; OTEL_SDK_DISABLED, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_*:
 * https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). The SDK is loaded only then.
 */
import type * as api from '@opentelemetry/api'
import type { Context as TraceContext, Span, Tracer } from '@opentelemetry/api'
import type { NineError } from '../../namespace/errors.ts'

export interface Tracing {
  /** Begin a span below `parent` (a W3C traceparent); end it with what became of the operation. */
  begin(op: string, path: string, principal: string, parent: string | undefined): OperationSpan
  close(): Promise<void>
}

export interface OperationSpan {
  /** The traceparent that what this operation causes should carry. */
  readonly traceparent: string
  end(error?: NineError): void
}

export async function openTracing(environment: NodeJS.ProcessEnv): Promise<Tracing | undefined> {
  const isWanted =
    environment['OTEL_EXPORTER_OTLP_ENDPOINT'] !== undefined || environment['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] !== undefined
  if (!isWanted || environment['OTEL_SDK_DISABLED'] === 'true' || environment['OTEL_TRACES_EXPORTER'] === 'none') return undefined
  const [otel, sdk, resources, exporter] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/exporter-trace-otlp-http'),
  ])
  const named = resources.resourceFromAttributes({ 'service.name': environment['OTEL_SERVICE_NAME'] ?? 'ninefold' })
  const detected = resources.detectResources({ detectors: [resources.envDetector] })
  const provider = new sdk.TracerProvider({
    resource: resources.defaultResource().merge(named).merge(detected),
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter: new exporter.OTLPTraceExporter() })],
  })
  const tracer = provider.getTracer('ninefold')
  return {
    begin: (op, path, principal, parent) => beginSpan(otel, tracer, op, path, principal, parent),
    close: async () => provider.shutdown(),
  }
}

type Api = typeof api

function beginSpan(api: Api, tracer: Tracer, op: string, path: string, principal: string, parent: string | undefined): OperationSpan {
  const attributes = { 'nine.path': path, 'nine.principal': principal }
  const span = tracer.startSpan(op, { kind: api.SpanKind.SERVER, attributes }, parentContext(api, parent))
  return {
    traceparent: traceparentOf(span),
    end: (error) => {
      if (error !== undefined) {
        span.setStatus({ code: api.SpanStatusCode.ERROR, message: error.kind })
        span.setAttribute('nine.error', error.kind)
      }
      span.end()
    },
  }
}

const traceparent = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/

function parentContext(api: Api, parent: string | undefined): TraceContext {
  const match = traceparent.exec(parent ?? '')
  if (match === null) return api.ROOT_CONTEXT
  const [, traceId, spanId, flags] = match
  return api.trace.setSpanContext(api.ROOT_CONTEXT, {
    traceId: traceId!,
    spanId: spanId!,
    traceFlags: parseInt(flags!, 16),
    isRemote: true,
  })
}

function traceparentOf(span: Span): string {
  const { traceId, spanId, traceFlags } = span.spanContext()
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`
}
