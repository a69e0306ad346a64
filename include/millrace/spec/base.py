"""The base of all specs: frozen, and an unknown key is an error."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]

ColumnType = Literal["int16", "int32", "int64", "float32", "float64", "string", "bool", "timestamp"]


class Spec(BaseModel):
    """Frozen, closed, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False)
