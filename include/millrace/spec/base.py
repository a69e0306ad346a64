"""The base of all specs: frozen, and an unknown key is an error."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]


def _seen(name: str) -> str:
    if hidden := sorted({f"U+{ord(char):04X}" for char in name if unicodedata.category(char)[0] == "C"}):
        raise ValueError(f"a user name with control or invisible characters: {', '.join(hidden)}")
    return name


UserName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=256), AfterValidator(_seen)]


class RuleError(ValueError):
    """A rule between keys that does not hold.

    Args:
        what: the fault.
        remedy: what a person writes instead.
    """

    def __init__(self, what: str, *, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


ColumnType = Literal["int16", "int32", "int64", "float32", "float64", "string", "bool", "timestamp"]


class Spec(BaseModel):
    """Frozen, closed, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False)
