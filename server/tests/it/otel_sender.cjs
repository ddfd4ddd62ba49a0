// Sends the same instruments by OTLP over HTTP, as protobuf and as JSON, with OpenTelemetry's own SDK.
//
// Arguments: address of the server, tenant of what goes as protobuf, tenant of what goes as JSON.

const { diag, DiagConsoleLogger, DiagLogLevel } = require("@opentelemetry/api");
const json = require("@opentelemetry/exporter-metrics-otlp-http");
const proto = require("@opentelemetry/exporter-metrics-otlp-proto");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const {
  AggregationType,
  MeterProvider,
  PeriodicExportingMetricReader,
} = require("@opentelemetry/sdk-metrics");

// What fails is told, and fails the test.
let failures = 0;
const logger = new DiagConsoleLogger();
diag.setLogger(
  { ...logger, error: (...words) => { failures += 1; logger.error(...words); } },
  DiagLogLevel.WARN,
);

const [address, asProtobuf, asJson] = process.argv.slice(2);
const resource = resourceFromAttributes({
  "service.name": "cart",
  "service.namespace": "shop",
  "service.instance.id": "cart-0",
  "k8s.pod.name": "cart-0",
});
const views = [
  { instrumentName: "exponential", aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } },
];

async function send(exporter) {
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
  const provider = new MeterProvider({ resource, views, readers: [reader] });
  const meter = provider.getMeter("test", "1.0");
  const requests = meter.createCounter("http.server.requests", { unit: "{request}" });
  requests.add(3, { "http.method": "GET" });
  requests.add(2, { "http.method": "POST" });
  const queue = meter.createUpDownCounter("queue.length");
  queue.add(5);
  queue.add(-2);
  meter.createGauge("room.temperature", { unit: "Cel" }).record(21.5, { room: "a" });
  const explicit = meter.createHistogram("request.duration", { unit: "s" });
  const exponential = meter.createHistogram("exponential", { unit: "By" });
  for (const value of [0.003, 0.2, 7, 20_000]) {
    explicit.record(value);
    exponential.record(value * 10);
  }
  await provider.forceFlush();
  // Nothing more is sent: a delta of nothing would be another point.
}

async function main() {
  const url = `http://${address}/v1/metrics`;
  const of = (tenant) => ({ url, headers: { "X-Scope-OrgID": tenant }, compression: "gzip" });
  await send(new proto.OTLPMetricExporter(of(asProtobuf)));
  const temporalityPreference = json.AggregationTemporalityPreference.DELTA;
  await send(new json.OTLPMetricExporter({ ...of(asJson), temporalityPreference }));
  process.exit(failures === 0 ? 0 : 1);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
