"""Headers and bodies of requests as ASGI hands them over: size limit, compression, lengths."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from millrace.serving.base import RequestError

MAX_BODY_BYTES = 16 * 2**20

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class DisconnectedError(Exception):
    """The client went away before its request was whole; nobody waits for an answer."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body, decompressed.

    Args:
        scope: the request.
        receive: where the body comes from.
        limit: most bytes it may have, before and after decompression.

    Raises:
        RequestError: it is larger, or encoded in a way that is not offered.
        DisconnectedError: it never came to its end.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        declared = header(scope, b"content-length") or b"0"
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        chunks, size = [body], len(body)
        while message.get("more_body", False):
            message = await receive()
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > limit:
                raise _too_large(limit)
        body = b"".join(chunks)
    if message["type"] == "http.disconnect":
        raise DisconnectedError
    if len(body) > limit:
        raise _too_large(limit)
    encoding = header(scope, b"content-encoding")
    return body if encoding in (None, b"", b"identity") else _decompress(body, encoding, limit)


def header(scope: Scope, name: bytes) -> bytes | None:
    """The value of a header (its name in small letters), or None."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


def json_length(scope: Scope) -> int | None:
    """Bytes of JSON before the binary tensors; None where the whole body is JSON.

    Raises:
        RequestError: the header is not a number.
    """
    given = header(scope, b"inference-header-content-length")
    if given is None:
        return None
    if not given.isdigit() or len(given) > 12:
        raise RequestError(400, "Inference-Header-Content-Length is not a number")
    return int(given)


def _decompress(body: bytes, encoding: bytes, limit: int) -> bytes:
    if encoding not in (b"gzip", b"deflate"):
        raise RequestError(415, f"no content encoding {encoding[:40]!r} here", remedy="send gzip, deflate or neither")
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
