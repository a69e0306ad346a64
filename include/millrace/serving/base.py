"""Values of the online service: a request in columns, and the error that becomes an HTTP answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from millrace.errors import MillraceError

Kind = Literal["number", "category", "key"]
Column = NDArray[np.float64] | list[Any]
"""Numbers: float64 array (or list of one); categories: list of str or None; join keys: list of str, int or None."""


class RequestError(MillraceError):
    """A request cannot be answered; the client reads why. A retry helps with 503 only.

    Args:
        status: HTTP status.
        what: the fault, with the offending name or value.
        remedy: what the client does about it.
    """

    def __init__(self, status: int, what: str, *, remedy: str = "") -> None:
        super().__init__(what, remedy=remedy)
        self.status = status

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """One request in columns, whichever protocol it came by.

    Attributes:
        columns: name → values, all of one length.
        rows: that length.
        id: the client's own name of the request.
        outputs: (name, as binary) of the outputs asked for; None for all of them.
        binary_output: whether outputs go out as binary where nothing else is said.
    """

    columns: Mapping[str, Column]
    rows: int
    id: str = ""
    outputs: tuple[tuple[str, bool], ...] | None = None
    binary_output: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer: status, body, and headers as ASGI wants them."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]
