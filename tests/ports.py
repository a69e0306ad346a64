"""Ports of the loopback for servers that cannot choose one themselves and say which."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that one server after the other may listen on, and that the system gives to nobody else meanwhile.

    It is bound and never listened on. Linux lets a second socket bind it where both set SO_REUSEADDR, as servers do,
    and chooses it neither for a connection nor for who asks for any free port.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
