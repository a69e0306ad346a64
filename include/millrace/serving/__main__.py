"""`python -m millrace.serving --host H --port P --dir D --online-store F`: the online service as a process."""

from __future__ import annotations

from millrace.serving.guard import block_modules

if __name__ == "__main__":
    block_modules()

import argparse
import gc
import logging
import signal
import socket
import sys
from pathlib import Path

from millrace.errors import MillraceError, SettingsError
from millrace.settings import online_store, serving_token

log = logging.getLogger("millrace.serving")
_GRACE_SECONDS = 10
_STORE_HELP = "SQLite file, redis://… or postgresql://…; by default MILLRACE_ONLINE_STORE, which hides a password"


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; requests under way are answered first. The exit status is 0 then."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        listener = _listen(options.host, options.port)
        _serve(listener, options)
    except MillraceError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the process' own command line
        return 2
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m millrace.serving", description="Millrace's online service")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8090, help="port; 0 takes a free one and logs it")
    parser.add_argument("--dir", type=Path, required=True, help="folder with <use case>/current.json")
    parser.add_argument("--online-store", default=online_store() or None, help=_STORE_HELP)
    return parser.parse_args(arguments)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"cannot listen on {host}:{port}: {error}",
            where="--host, --port",
            remedy="name a free port, or stop what holds it",
        ) from error


def _serve(listener: socket.socket, options: argparse.Namespace) -> None:
    import uvicorn

    from millrace.serving.app import InferenceApp
    from millrace.serving.repository import Repository
    from millrace.serving.request_log import RequestLog
    from millrace.serving.sampled_row import FOLDER

    requests = RequestLog(options.dir / FOLDER)
    app = InferenceApp(Repository(options.dir, options.online_store), token=serving_token(), requests=requests)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    # uvicorn raises the signal that stopped it once more when it is done; there it shall end in peace.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: None)
    gc.freeze()
    log.info("online service on http://%s:%d, releases of %s", *listener.getsockname()[:2], options.dir)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
