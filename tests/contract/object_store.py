"""A bucket to test against: moto's server in a process of its own.

deltalake keeps Python's lock while it waits for the store, so a server in a thread of the test would never answer.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_CREDENTIAL = "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"
_SERVER = """
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

store = DomainDispatcherApplication(create_backend_app)
turn = threading.Lock()


def answer(environ, start_response):
    with turn:
        return store(environ, start_response)


server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=MotoRequestHandler)
print(server.port, flush=True)
server.serve_forever()
"""
"""A conditional write of S3 is one step; moto looks and writes in two, so that requests have to take turns."""


@contextmanager
def bucket(name: str = "lake") -> Iterator[Mapping[str, str]]:
    """A bucket that stands as long as the block; the environment under which clients find it."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            port = server.stdout.readline().strip() if server.stdout is not None else ""
            if not port:
                raise RuntimeError("moto's server did not start")
            url = f"http://127.0.0.1:{port}"
            request = urllib.request.Request(f"{url}/{name}", method="PUT", headers={"Authorization": _CREDENTIAL})
            urllib.request.urlopen(request, timeout=60).close()
            yield {
                "AWS_ENDPOINT_URL": url,
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        finally:
            server.kill()
