"""Contracts written in Python: a function of the team's gives Great Expectations' own expectations.

What a failure does stands in the `meta` of each: `on_failure` (block by default), and `id` and `stage` if wanted.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from millrace.errors import SpecError
from millrace.spec.contract import ExpectationSpec

_OURS = ("on_failure", "id", "stage")


def load_suite(target: str) -> list[ExpectationSpec]:
    """The expectations that a function gives, in their order.

    Args:
        target: `package.module:function`; the function takes nothing and gives a `great_expectations.ExpectationSuite`
            or a list of expectations.

    Raises:
        SpecError: the function cannot be imported or called, gives something else, or a `meta` is wrong.
    """
    given = _call(target)
    expectations = getattr(given, "expectations", given)
    if isinstance(expectations, str | bytes | dict) or not isinstance(expectations, Iterable):
        raise SpecError(
            f"{target} gives a {type(given).__name__}",
            where=f"contract, {target}",
            remedy="return a great_expectations.ExpectationSuite or a list of expectations",
        )
    return [_spec(item, f"{target}, expectation {number}") for number, item in enumerate(expectations, 1)]


def _call(target: str) -> Any:
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        raise SpecError(
            f"{target!r} does not name a function", where="contract", remedy="write package.module:function"
        )
    from millrace.validation import gx_expectation as _quiet  # noqa: F401 before the module imports Great Expectations

    try:
        return getattr(importlib.import_module(module), name)()
    except Exception as error:
        raise SpecError(
            f"{target} fails: {type(error).__name__}: {error}",
            where=f"contract, {target}",
            remedy="the module must be importable where tasks run, and the function callable without arguments",
        ) from error


def _spec(item: Any, where: str) -> ExpectationSpec:
    try:
        configuration = item.configuration
        kind, kwargs, meta = configuration.type, configuration.kwargs, dict(configuration.meta or {})
    except AttributeError as error:
        raise SpecError(
            f"a {type(item).__name__} is no expectation",
            where=where,
            remedy="use the classes of great_expectations.expectations",
        ) from error
    plain = {name: sorted(value) if isinstance(value, set | frozenset) else value for name, value in kwargs.items()}
    try:
        return ExpectationSpec(type=kind, kwargs=plain, **{name: meta[name] for name in _OURS if name in meta})
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors())
        raise SpecError(told, where=f"{where} ({kind})", remedy=f"meta takes {', '.join(_OURS)}") from error
