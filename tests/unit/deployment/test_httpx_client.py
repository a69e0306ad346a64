from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.ports import reserved_port

from millrace.deployment.httpx_client import ServiceClient
from millrace.errors import DeploymentError


@contextmanager
def service(answers: Callable[[int], tuple[int, bytes]]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A loopback server that answers the n-th request as told."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            asked.append({name.lower(): value for name, value in self.headers.items()})
            status, body = answers(len(asked))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - so the server calls it

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_busy_service_is_asked_again_and_then_believed() -> None:
    told = {"version": "1", "package": "a"}
    with service(lambda n: (503, b"busy") if n < 3 else (200, json.dumps(told).encode())) as (url, asked):
        assert ServiceClient(url=url, token="secret", pause_s=0.01).load("m") == told
    assert len(asked) == 3
    assert asked[0]["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    "body", [json.dumps({"error": "no such thing"}).encode(), b"no such thing", b'["no such thing"]']
)
def test_a_refusal_is_told_at_once(body: bytes) -> None:
    with service(lambda _: (409, body)) as (url, asked):
        with pytest.raises(DeploymentError, match="no such thing") as caught:
            ServiceClient(url=url, pause_s=0.01).load("m")
    assert len(asked) == 1
    assert caught.value.retryable


def test_attempts_are_bounded_and_nobody_is_named() -> None:
    with (
        reserved_port() as port,
        pytest.raises(DeploymentError, match=r"does not answer \(3 attempts\)") as caught,
    ):
        ServiceClient(url=f"http://127.0.0.1:{port}", attempts=3, pause_s=0.01).load("m")
    assert "make up" in caught.value.remedy


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"", b"[]", b"{}", b'{"version": 1, "package": null}'])
def test_something_else_that_answers_well_is_not_the_service(body: bytes) -> None:
    with service(lambda _: (200, body)) as (url, asked):
        with pytest.raises(DeploymentError, match="what answers is not the online service") as caught:
            ServiceClient(url=url).load("m")
        with pytest.raises(DeploymentError, match="what answers is not the online service"):
            ServiceClient(url=url).predict("m", {}, {})
    assert len(asked) == 2
    assert "MILLRACE_SERVING_URL" in caught.value.remedy


def test_an_address_that_is_none_is_told() -> None:
    with pytest.raises(DeploymentError, match="no address of an online service"):
        ServiceClient(url="http://host:notaport").metadata("m")
