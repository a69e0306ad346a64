"""Secrets of the embedded installation: made once, readable by their owner only."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def keep_secret(path: Path, make: Callable[[], str]) -> str:
    """The secret in `path`; made with `make` and written with mode 0600 where there is none yet."""
    if path.is_file() and path.stat().st_size:
        path.chmod(0o600)
        return path.read_text(encoding="utf-8")
    value = make()
    write_private(path, value.encode())
    return value


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step, never readable by others."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def make_fernet_key() -> str:
    """32 random bytes in the form that Fernet wants."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def make_token() -> str:
    """A random key of 384 bits."""
    return secrets.token_urlsafe(48)
