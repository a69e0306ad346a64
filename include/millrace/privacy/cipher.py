"""Text that may hold personal data and cannot be taken apart: encrypted, and equal text gives equal ciphertext.

Equal ciphertext is what lets a re-run find that nothing changed; what it gives away is that two records are equal.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from millrace.errors import SettingsError

_PREFIX = "aes-siv:"


def conceal(text: str, key: bytes) -> str:
    """The text under the installation's key (AES-SIV, RFC 5297)."""
    return _PREFIX + base64.urlsafe_b64encode(_cipher(key).encrypt(text.encode(), None)).decode()


def reveal(text: str, key: bytes) -> str:
    """What `conceal` was given; a text that was never concealed comes back as it is.

    Raises:
        SettingsError: it was concealed under another key.
    """
    if not text.startswith(_PREFIX):
        return text
    try:
        return _cipher(key).decrypt(base64.urlsafe_b64decode(text.removeprefix(_PREFIX)), None).decode()
    except (InvalidTag, ValueError) as error:
        raise SettingsError(
            "a quarantined text was encrypted under another key",
            where="MILLRACE_PRIVACY_KEY or privacy.key",
            remedy="put back the key that this installation was set up with",
        ) from error


def _cipher(key: bytes) -> AESSIV:
    return AESSIV(hashlib.sha512(b"millrace quarantined text" + key).digest())
