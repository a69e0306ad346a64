"""The installation's key for personal data: made once, kept in a file only its user can read."""

from __future__ import annotations

import os
import secrets

from millrace.errors import SettingsError
from millrace.settings import Settings

_BYTES = 32


def installation_key(settings: Settings) -> bytes:
    """The 32 bytes that tokens and ciphertexts are made with.

    `MILLRACE_PRIVACY_KEY` (64 hexadecimal digits) where it is set, else `<var>/privacy.key`, which is made on first
    use. Several machines on one lake must share it: another key gives other tokens.

    Raises:
        SettingsError: the key is not 64 hexadecimal digits.
    """
    if settings.privacy_key:
        return _parsed(settings.privacy_key, "MILLRACE_PRIVACY_KEY")
    path = settings.var / "privacy.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(_BYTES))
        try:
            os.link(draft, path)  # of several processes one wins, and all read what it wrote
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return _parsed(path.read_text().strip(), str(path))


def _parsed(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _BYTES:
        raise SettingsError(
            "the key for personal data is not 64 hexadecimal digits",
            where=where,
            remedy="put back the key that this installation was set up with; with another one tokens do not match",
        )
    return key
