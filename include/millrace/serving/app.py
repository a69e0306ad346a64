"""The ASGI application: routes, limits, the bearer token, and errors as JSON.

Everything small happens on the event loop: a one-row prediction takes less time than handing it to a thread.
Large requests are predicted, and releases loaded, in a thread, so that the service goes on answering.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import millrace
from millrace.errors import MillraceError
from millrace.serving.base import Answer, InferenceRequest, RequestError
from millrace.serving.invocation import parse_invocation
from millrace.serving.metric import Metrics
from millrace.serving.protocol import EXTENSIONS, encode_inference, encode_json, parse_inference
from millrace.serving.repository import Repository, Served

log = logging.getLogger(__name__)
MAX_BODY_BYTES = 16 * 2**20
THREAD_FROM_ROWS = 256
"""Rows from which a prediction leaves the event loop."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class InferenceApp:
    """The online service as an ASGI application.

    Args:
        repository: releases to serve.
        token: bearer token that loading asks for; "" asks for none.
        max_body_bytes: larger bodies, also after decompression, are refused with 413.
    """

    def __init__(self, repository: Repository, *, token: str = "", max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.repository = repository
        self.metrics = Metrics()
        self._token = token.encode()
        self._max_body_bytes = max_body_bytes
        self._loading = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection: an HTTP request, or the lifespan of the server."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"no protocol {scope['type']!r} here")
        started = time.perf_counter()
        parts = scope["path"].strip("/").split("/")
        try:
            answer, model, protocol = await self._route(scope["method"], parts, scope, receive)
        except _DisconnectedError:
            return
        self.metrics.observe(model, protocol, answer.status, time.perf_counter() - started)
        headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                for name in self.repository.names():
                    await self._load(name)
                await send({"type": "lifespan.startup.complete"})
            else:
                self._thread.shutdown(wait=True, cancel_futures=True)
                self.repository.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _route(self, method: str, parts: list[str], scope: Scope, receive: Receive) -> tuple[Answer, str, str]:
        """Answer, model and protocol (for the metrics) of a request; every error is an answer here."""
        model, protocol = "", "other"
        try:
            body = await self._body(scope, receive) if method == "POST" else b""
            match parts:
                case ["v2", "models", name, *rest] if rest[-1:] == ["infer"]:
                    protocol = "v2"
                    _allow(method, "POST")
                    served = self._served(name, rest[:-1])
                    model = name
                    length = _json_length(scope)
                    request = parse_inference(body, length, served.kinds)
                    return await self._infer(served, request), model, protocol
                case ["invocations", *rest] if len(rest) <= 1:
                    protocol = "mlflow"
                    _allow(method, "POST")
                    served = self._served(rest[0] if rest else self.repository.only(), [])
                    model = served.ref.use_case
                    return await self._invoke(served, parse_invocation(body, served.kinds)), model, protocol
                case _:
                    return await self._other(method, parts, scope), model, protocol
        except RequestError as error:
            return encode_json({"error": str(error)}, error.status), model, protocol
        except _DisconnectedError:
            raise
        except Exception:
            log.exception("%s %s failed", method, scope["path"])
            return encode_json({"error": "internal error; the service's log tells more"}, 500), model, protocol

    async def _other(self, method: str, parts: list[str], scope: Scope) -> Answer:
        match parts:
            case ["v2"]:
                _allow(method, "GET")
                return encode_json({"name": "millrace", "version": millrace.__version__, "extensions": EXTENSIONS})
            case ["v2", "health", "live" | "ready" as which]:
                _allow(method, "GET")
                return encode_json({which: True})
            case ["ping"] | ["health"]:
                _allow(method, "GET")
                return encode_json({"status": "ok"})
            case ["metrics"]:
                _allow(method, "GET")
                text = self.metrics.render(served.labels for served in self.repository.served())
                return Answer(status=200, body=text, headers=((b"content-type", b"text/plain; version=0.0.4"),))
            case ["v2", "models", name, *rest] if rest[-1:] == ["ready"]:
                _allow(method, "GET")
                self._served(name, rest[:-1])
                return encode_json({"ready": True})
            case ["v2", "models", name, *rest]:
                _allow(method, "GET")
                return encode_json(self._served(name, rest).metadata)
            case ["v2", "repository", "index"]:
                _allow(method, "POST")
                return encode_json(self.repository.index())
            case ["v2", "repository", "models", name, "load"]:
                _allow(method, "POST")
                self._authorize(scope)
                return encode_json(await self._load_asked(name))
            case _:
                raise RequestError(404, f"no such address: {scope['path'][:200]}", remedy="see /v2 and /v2/models/<name>")

    def _served(self, name: str, rest: list[str]) -> Served:
        """The release of that name, where the version in the URL (if any) is the one in service."""
        served = self.repository.get(name)
        match rest:
            case []:
                return served
            case ["versions", version]:
                if version != served.version:
                    raise RequestError(
                        404, f"release {version[:20]} of {name!r} is not in service, {served.version} is", remedy="leave the version out"
                    )
                return served
            case _:
                raise RequestError(404, f"model {name!r} has no {'/'.join(rest)[:80]!r}")

    async def _infer(self, served: Served, request: InferenceRequest) -> Answer:
        outputs, parameters = await self._predict(served, request)
        return encode_inference(
            request, outputs, model=served.ref.use_case, version=served.version, parameters=parameters
        )

    async def _invoke(self, served: Served, request: InferenceRequest) -> Answer:
        outputs, parameters = await self._predict(served, request)
        return encode_json({"predictions": outputs["prediction"].tolist(), "parameters": parameters})

    async def _predict(self, served: Served, request: InferenceRequest) -> tuple[dict[str, Any], dict[str, Any]]:
        vector = served.assemble(request, self.repository.store)
        if request.rows < THREAD_FROM_ROWS:
            outputs = served.predict(vector.columns)
        else:
            outputs = await asyncio.get_running_loop().run_in_executor(self._thread, served.predict, vector.columns)
        model = served.ref.use_case
        self.metrics.rows[(model, vector.source)] += request.rows
        for view, places in vector.unknown.items():
            self.metrics.unknown[(model, view)] += len(places)
        return outputs, served.parameters | vector.parameters

    async def _load(self, name: str) -> str:
        """Load what the pointer names; "" or why not. What was served before goes on being served in that case."""
        async with self._loading:
            try:
                served = await asyncio.get_running_loop().run_in_executor(None, self.repository.load, name)
            except (MillraceError, OSError) as error:
                self.metrics.loads[(name, "refused")] += 1
                log.error("release of %s refused: %s", name, error)
                return str(error)
            self.metrics.loads[(name, "loaded")] += 1
            log.info("release %s of %s loaded, package %s", served.version, name, served.ref.package)
            return ""

    async def _load_asked(self, name: str) -> dict[str, Any]:
        if name not in self.repository.names():
            raise RequestError(404, f"no release of {name[:80]!r} is deployed here", remedy="write its current.json first")
        if fault := await self._load(name):
            still = self.repository.version(name)
            kept = f"release {still} stays in service" if still else "nothing is served under that name"
            raise RequestError(409, f"the release was refused: {fault}", remedy=kept)
        served = self.repository.get(name)
        return {"name": name, "version": served.version, "package": served.ref.package, "state": "READY"}

    def _authorize(self, scope: Scope) -> None:
        given = _header(scope, b"authorization") or b""
        if self._token and not hmac.compare_digest(given, b"Bearer " + self._token):
            raise RequestError(401, "loading a release needs the service's bearer token", remedy="send Authorization: Bearer …")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body, decompressed, at most `max_body_bytes` long."""
        limit = self._max_body_bytes
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body", False):
            declared = _header(scope, b"content-length") or b"0"
            if declared.isdigit() and int(declared) > limit:
                raise _too_large(limit)
            chunks, size = [body], len(body)
            while message.get("more_body", False):
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _DisconnectedError
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > limit:
                    raise _too_large(limit)
            body = b"".join(chunks)
        elif message["type"] == "http.disconnect":
            raise _DisconnectedError
        if len(body) > limit:
            raise _too_large(limit)
        encoding = _header(scope, b"content-encoding")
        return body if encoding in (None, b"identity") else _decompress(body, encoding, limit)


class _DisconnectedError(Exception):
    """The client went away before its request was whole."""


def _header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


def _json_length(scope: Scope) -> int | None:
    given = _header(scope, b"inference-header-content-length")
    if given is None:
        return None
    if not given.isdigit() or len(given) > 12:
        raise RequestError(400, "Inference-Header-Content-Length is not a number")
    return int(given)


def _decompress(body: bytes, encoding: bytes | None, limit: int) -> bytes:
    if encoding not in (b"gzip", b"deflate"):
        raise RequestError(415, f"no content encoding {(encoding or b'')[:40]!r} here", remedy="send gzip, deflate or neither")
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise RequestError(400, f"the body is not {encoding.decode()}: {error}") from error
    if len(plain) > limit:
        raise _too_large(limit)
    return plain


def _too_large(limit: int) -> RequestError:
    return RequestError(413, f"the body is larger than {limit} bytes", remedy="send fewer rows a request")


def _allow(method: str, wanted: str) -> None:
    if method != wanted and not (wanted == "GET" and method == "HEAD"):
        raise RequestError(405, f"{method} is not offered here", remedy=f"use {wanted}")
