"""People by their names: when two spellings are one person, who counts among several, and what people write."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Protocol, TypeVar

LONGEST_TEXT = 2_000
SHORTEST_REASON = 5
"""Characters of a reason for a rollback; at the command line and in the form alike."""
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_POLICY = "policy:"


class _Acted(Protocol):
    @property
    def actor(self) -> str: ...


Acted = TypeVar("Acted", bound=_Acted)


def key_of(name: str) -> str:
    """What two spellings of one name share: composed, in one width and case, without what nobody sees."""
    seen = "".join(char for char in unicodedata.normalize("NFKC", name) if unicodedata.category(char) not in _UNSEEN)
    return unicodedata.normalize("NFKC", seen.strip().casefold())


def same_person(one: str, other: str) -> bool:
    """Whether two names are one person's."""
    return key_of(one) == key_of(other)


def fault_of(name: str) -> str:
    """Why a name is no person's, as a sentence; "" where it may be one."""
    if any(unicodedata.category(char) in _UNSEEN for char in name):
        return f"the name {name!a} has control or invisible characters, so nobody can tell whose it is"
    if not key_of(name):
        return "an answer without a name does not count"
    if key_of(name).startswith(_POLICY):
        return f"{name} may not approve: that is how a policy signs"
    return ""


def different_people(acts: Iterable[Acted], barred: Iterable[str] = ()) -> list[Acted]:
    """The first act of each person, in order; none of those who are barred or whose name is no person's."""
    known = {key_of(name) for name in barred}
    counted: list[Acted] = []
    for act in acts:
        key = key_of(act.actor)
        if key and key not in known:
            known.add(key)
            counted.append(act)
    return counted


def plain_text(text: str) -> str:
    """What a person wrote, as the ledger keeps it: of bounded length, and valid Unicode."""
    valid = text.encode("utf-8", "replace").decode("utf-8").strip()
    return valid if len(valid) <= LONGEST_TEXT else valid[: LONGEST_TEXT - 1] + "…"
