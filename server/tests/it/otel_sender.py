"""Sends the same instruments by OTLP over HTTP and over gRPC, with OpenTelemetry's own SDK.

Arguments: address of the server, tenant of what goes over HTTP, tenant of what goes over gRPC.
"""

import sys

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
    OTLPMetricExporter as GrpcExporter,
)
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
    OTLPMetricExporter as HttpExporter,
)
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import (
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource

address, over_http, over_grpc = sys.argv[1:]
resource = Resource(
    {
        "service.name": "cart",
        "service.namespace": "shop",
        "service.instance.id": "cart-0",
        "k8s.pod.name": "cart-0",
    }
)
views = [
    View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())
]


def send(exporter, rounds=1):
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider(metric_readers=[reader], resource=resource, views=views)
    meter = provider.get_meter("test", "1.0")
    requests = meter.create_counter("http.server.requests", unit="{request}", description="requests")
    queue = meter.create_up_down_counter("queue.length")
    gauge = meter.create_gauge("room.temperature", unit="Cel")
    explicit = meter.create_histogram("request.duration", unit="s")
    exponential = meter.create_histogram("exponential", unit="By")
    for _ in range(rounds):
        requests.add(3, {"http.method": "GET"})
        requests.add(2, {"http.method": "POST"})
        queue.add(5)
        queue.add(-2)
        gauge.set(21.5, {"room": "a"})
        for value in (0.003, 0.2, 7.0, 20_000.0):
            explicit.record(value)
            exponential.record(value * 10)
        if not provider.force_flush():
            sys.exit("export failed")
    provider.shutdown()


send(
    HttpExporter(
        endpoint=f"http://{address}/v1/metrics",
        headers={"X-Scope-OrgID": over_http},
        compression=Compression.Gzip,
    )
)
send(
    GrpcExporter(
        endpoint=f"http://{address}",
        headers=(("x-scope-orgid", over_grpc),),
        insecure=True,
        preferred_temporality={
            Counter: AggregationTemporality.DELTA,
            Histogram: AggregationTemporality.DELTA,
        },
    )
)
