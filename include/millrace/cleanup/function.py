"""Functions that a spec names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from millrace.errors import SpecError


def load_function(name: str, *, where: str = "") -> Callable[..., Any]:
    """The function behind `package.module:function`.

    Raises:
        SpecError: there is no such module, it fails when imported, or has no such function.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # importing runs code of the team's
        raise SpecError(
            f"module {module!r} cannot be imported: {type(error).__name__}: {error}",
            where=where,
            remedy="correct the name, or install the module where Millrace runs",
        ) from error
    if not callable(found):
        raise SpecError(f"module {module!r} has no function {function!r}", where=where, remedy="correct the name")
    checked: Callable[..., Any] = found
    return checked
