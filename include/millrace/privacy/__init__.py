"""What is personal never lies in the lake in the clear: keyed tokens, dropped columns, encrypted text."""

from millrace.privacy.cipher import conceal, reveal
from millrace.privacy.key import installation_key
from millrace.privacy.token import protect, token_of

__all__ = ["conceal", "installation_key", "protect", "reveal", "token_of"]
