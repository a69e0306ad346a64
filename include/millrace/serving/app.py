"""The ASGI application: routes, the bearer token, and errors as JSON.

Everything small happens on the event loop: a one-row prediction takes less time than handing it to a thread.
Large requests are predicted, and releases loaded, in a thread, so that the service goes on answering.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import millrace
from millrace.errors import MillraceError
from millrace.serving.answer_id import AnswerIds
from millrace.serving.base import Answer, InferenceRequest, RequestError
from millrace.serving.body import (
    MAX_BODY_BYTES,
    DisconnectedError,
    Receive,
    Scope,
    Send,
    header,
    json_length,
    read_body,
)
from millrace.serving.invocation import parse_invocation
from millrace.serving.metric import Metrics
from millrace.serving.protocol import EXTENSIONS, encode_inference, encode_json, parse_inference
from millrace.serving.repository import Repository, Served
from millrace.serving.request_log import RequestLog

log = logging.getLogger(__name__)
THREAD_FROM_ROWS = 256
"""Rows from which a prediction leaves the event loop."""


class InferenceApp:
    """The online service as an ASGI application.

    Args:
        repository: releases to serve.
        token: bearer token that loading asks for; "" asks for none.
        max_body_bytes: larger bodies, also after decompression, are refused with 413.
        requests: keeps a sample of the rows asked by key; None keeps none.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        token: str = "",
        max_body_bytes: int = MAX_BODY_BYTES,
        requests: RequestLog | None = None,
    ) -> None:
        self.repository = repository
        self.metrics = Metrics()
        self.requests = requests
        if requests is not None:
            self.metrics.sampled = requests.outcomes
        self._answers = AnswerIds()
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
        try:
            answer, model, protocol = await self._answer(scope, receive)
        except DisconnectedError:
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
                if self.requests is not None:
                    self.requests.close()
                self.repository.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[Answer, str, str]:
        """Answer, model and protocol (for the metrics) of a request; every error is an answer here."""
        model, protocol, method = "", "other", scope["method"]
        try:
            body = await read_body(scope, receive, self._max_body_bytes) if method == "POST" else b""
            match scope["path"].strip("/").split("/"):
                case ["v2", "models", name, *version, "infer"]:
                    protocol = "v2"
                    _allow(method, "POST")
                    served = self._served(name, version)
                    model = name
                    answer = await self._infer(served, parse_inference(body, json_length(scope), served.kinds))
                case ["invocations", *rest] if len(rest) <= 1:
                    protocol = "mlflow"
                    _allow(method, "POST")
                    served = self._served(rest[0] if rest else self.repository.only(), [])
                    model = served.ref.use_case
                    answer = await self._invoke(served, parse_invocation(body, served.kinds))
                case ["v2", "repository", "models", name, "load"]:
                    _allow(method, "POST")
                    self._authorize(scope)
                    answer = encode_json(await self._load_asked(name))
                case parts:
                    answer = self._tell(method, parts)
        except RequestError as error:
            answer = encode_json({"error": str(error)}, error.status)
        except DisconnectedError:
            raise
        except Exception:
            log.exception("%s %s failed", method, scope["path"])
            answer = encode_json({"error": "internal error; the service's log tells more"}, 500)
        return answer, model, protocol

    def _tell(self, method: str, parts: list[str]) -> Answer:
        """What the service tells of itself and its models."""
        found: Any
        wanted = "GET"
        match parts:
            case ["v2"]:
                found = {"name": "millrace", "version": millrace.__version__, "extensions": EXTENSIONS}
            case ["v2", "health", "live" | "ready" as which]:
                found = {which: True}
            case ["ping"] | ["health"]:
                found = {"status": "ok"}
            case ["v2", "models", name, *version, "ready"]:
                found = {"name": name, "ready": self._served(name, version).version != ""}
            case ["v2", "models", name, *version]:
                found = self._served(name, version).metadata
            case ["v2", "repository", "index"]:
                found, wanted = self.repository.index(), "POST"
            case ["metrics"]:
                _allow(method, wanted)
                text = self.metrics.render(served.labels for served in self.repository.served())
                return Answer(status=200, body=text, headers=((b"content-type", b"text/plain; version=0.0.4"),))
            case _:
                address = "/".join(parts)[:200]
                raise RequestError(404, f"no such address: /{address}", remedy="see /v2 and /v2/models/<name>")
        _allow(method, wanted)
        return encode_json(found)

    def _served(self, name: str, version: list[str]) -> Served:
        """The release of that name, where the version in the URL (if any) is the one in service."""
        served = self.repository.get(name)
        match version:
            case []:
                return served
            case ["versions", asked] if asked == served.version:
                return served
            case ["versions", asked]:
                what = f"release {asked[:20]} of {name!r} is not in service, {served.version} is"
                raise RequestError(404, what, remedy="leave the version out")
            case _:
                raise RequestError(404, f"model {name!r} has no {'/'.join(version)[:80]!r}")

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
        answer = self._answers.make(model, served.ref.release)
        if self.requests is not None:
            self.requests.offer(served, request, vector, answer=answer, predictions=outputs["prediction"])
        return outputs, {**served.parameters, "prediction_id": answer, **vector.parameters}

    async def _load(self, name: str) -> str:
        """Load what the pointer names; "" or why not. What was served before goes on being served in that case."""
        async with self._loading:
            try:
                served = await asyncio.get_running_loop().run_in_executor(None, self.repository.load, name)
            except (MillraceError, OSError, ImportError, ValueError) as error:
                self.metrics.loads[(name, "refused")] += 1
                log.warning("release of %s refused: %s", name, error)
                return " ".join(str(error).split())
            self.metrics.loads[(name, "loaded")] += 1
            log.info("release %s of %s loaded, package %s", served.version, name, served.ref.package)
            return ""

    async def _load_asked(self, name: str) -> dict[str, Any]:
        if name not in self.repository.names():
            raise RequestError(404, f"no release of {name[:80]!r} is deployed here", remedy="write its pointer first")
        if fault := await self._load(name):
            still = self.repository.version(name)
            kept = f"release {still} stays in service" if still else "nothing is served under that name"
            raise RequestError(409, f"the release was refused: {fault}", remedy=kept)
        served = self.repository.get(name)
        return {"name": name, "version": served.version, "package": served.ref.package, "state": "READY"}

    def _authorize(self, scope: Scope) -> None:
        given = header(scope, b"authorization") or b""
        if self._token and not hmac.compare_digest(given, b"Bearer " + self._token):
            raise RequestError(401, "loading needs the service's token", remedy="send Authorization: Bearer <token>")


def _allow(method: str, wanted: str) -> None:
    if method != wanted and not (wanted == "GET" and method == "HEAD"):
        raise RequestError(405, f"{method} is not offered here", remedy=f"use {wanted}")
