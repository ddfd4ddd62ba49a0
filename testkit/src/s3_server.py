"""An S3 service for tests: moto's, with faults and delays on demand.

    s3_server.py PORT BUCKET      PORT 0: a free one, printed as the first line

PUT /-/plan takes JSON: {"delay_ms": 30, "blind": true, "faults": [{"method": "PUT", "part": "manifest/",
"status": 503, "times": 2, "late": true}]}. `blind`: If-None-Match is not looked at. A fault answers requests
of a method whose path holds `part`; `late`: after they were carried out; status 0: no answer, ever. GET
/-/log gives the requests since the last look, one a line.
"""

import json
import sys
import threading
import time

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import Client, run_wsgi_app

S3 = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


class Faulty:
    def __init__(self, app):
        self.app, self.lock = app, threading.Lock()
        self.plan, self.log = {}, []

    def fault_of(self, method, path):
        with self.lock:
            self.log.append(f"{method} {path}")
            for fault in self.plan.get("faults", []):
                if fault.get("method", method) == method and fault.get("part", "") in path and fault["times"] > 0:
                    fault["times"] -= 1
                    return fault
        return None

    def __call__(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == "/-/plan":
            length = int(environ.get("CONTENT_LENGTH") or 0)
            self.plan = json.loads(environ["wsgi.input"].read(length))
            return answer(start_response, 204, b"")
        if path == "/-/log":
            with self.lock:
                text, self.log = "\n".join(self.log), []
            return answer(start_response, 200, text.encode())
        time.sleep(self.plan.get("delay_ms", 0) / 1000)
        if self.plan.get("blind"):
            environ.pop("HTTP_IF_NONE_MATCH", None)
        fault = self.fault_of(method, path)
        if fault is None:
            return self.app(environ, start_response)
        if fault.get("late"):
            b"".join(run_wsgi_app(self.app, environ)[0])
        else:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if fault["status"] == 0:
            time.sleep(3600)
        return answer(start_response, fault["status"], b"<Error><Code>Planned</Code></Error>")


def answer(start_response, status, body):
    start_response(f"{status} Planned", [("Content-Length", str(len(body)))])
    return [body]


class Quiet(WSGIRequestHandler):
    # Answers go out at once, not with the acknowledgement of the header (40 ms).
    wbufsize = -1
    disable_nagle_algorithm = True

    def log(self, *_):
        pass


def main():
    port, bucket = int(sys.argv[1]), sys.argv[2]
    app = DomainDispatcherApplication(create_backend_app)
    made = Client(app).put(f"/{bucket}", headers={"Authorization": S3})
    assert made.status_code == 200, made.data
    server = make_server("127.0.0.1", port, Faulty(app), threaded=True, request_handler=Quiet)
    server.daemon_threads = True
    print(server.port, flush=True)
    server.serve_forever()


main()
