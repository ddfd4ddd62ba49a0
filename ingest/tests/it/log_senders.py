"""Libraries that others wrote send lines of logs: which one, to which host and port."""

import logging
import logging.handlers
import socket
import sys

which, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
base = f"http://{host}:{port}"


def by_elasticsearch():
    from elasticsearch import Elasticsearch, helpers

    client = Elasticsearch(base + "/elasticsearch")
    assert client.ping()
    assert client.info()["version"]["number"].startswith("8.")
    assert client.cluster.health()["status"] == "green"
    documents = [
        {"_op_type": kind, "_index": "logs-2026.11.21", "message": f"line {i}", "app": "es"}
        for i, kind in enumerate(["create", "index"])
    ]
    assert helpers.bulk(client, documents) == (2, [])
    # A refused document is told alone.
    documents[1]["@timestamp"] = "2001-01-01T00:00:00Z"
    stored, errors = helpers.bulk(client, documents, raise_on_error=False)
    assert stored == 1 and errors[0]["index"]["status"] == 400, (stored, errors)


def by_fluent():
    from fluent import sender

    fluent = sender.FluentSender("tag", host=host, port=port, nanosecond_precision=True)
    for i in range(3):
        assert fluent.emit("x", {"log": f"line {i}", "app": "fluent"}), fluent.last_error
    fluent.close()


def by_handler(handler):
    logger = logging.getLogger("lines")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    for i, level in enumerate([logging.INFO, logging.WARNING, logging.ERROR]):
        logger.log(level, "line %d", i)
    logging.shutdown()


def by_loki():
    from logging_loki import LokiHandler

    by_handler(LokiHandler(url=base + "/loki/api/v1/push", tags={"app": "loki"}, version="1"))


def by_otel():
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    provider = LoggerProvider(resource=Resource.create({"service.name": "otel"}))
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(base + "/v1/logs")))
    by_handler(LoggingHandler(logger_provider=provider))
    provider.shutdown()


def by_syslog(kind):
    handler = logging.handlers.SysLogHandler(address=(host, port), socktype=kind)
    handler.ident = "app: "
    by_handler(handler)


{
    "elasticsearch": by_elasticsearch,
    "fluent": by_fluent,
    "loki": by_loki,
    "otel": by_otel,
    "syslog-udp": lambda: by_syslog(socket.SOCK_DGRAM),
    "syslog-tcp": lambda: by_syslog(socket.SOCK_STREAM),
}[which]()
