"""Feast's own web page on the feature registry, for looking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feast import FeatureStore

_READING = {"GET", "HEAD", "OPTIONS"}
_REFUSED = b'{"detail": "this page only shows the registry: change files of the feature repository, then run `millrace \
features apply`"}'


class ReadOnlyApp:
    """An ASGI application that reads alone reach: Feast's page has buttons that write to the registry unplanned.

    Args:
        app: the application.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer what would write with 403."""
        if scope["type"] == "lifespan" or scope.get("method") in _READING:
            await self._app(scope, receive, send)
            return
        if scope["type"] == "http":
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_REFUSED)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSED})


def make_page(store: FeatureStore) -> ReadOnlyApp:
    """Feast's page on a store.

    Args:
        store: the opened store.

    Raises:
        ModuleNotFoundError: what Feast's page needs is not installed.
    """
    from feast.ui_server import get_app

    return ReadOnlyApp(get_app(store, store.project))


def serve_page(store: FeatureStore, *, host: str, port: int) -> None:
    """Serve Feast's page until the process is stopped.

    Args:
        store: the opened store.
        host: address to listen on.
        port: of it.

    Raises:
        ModuleNotFoundError: what Feast's page needs is not installed.
    """
    import uvicorn

    uvicorn.run(make_page(store), host=host, port=port)
