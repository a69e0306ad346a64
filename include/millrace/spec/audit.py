"""Columns that rows are told apart by: they exist, and training sets have no other column of their name."""

from __future__ import annotations

import difflib

from millrace.errors import SpecError
from millrace.spec.domain import DomainSpec
from millrace.spec.use_case import UseCaseSpec

RESERVED = frozenset({"key", "event_timestamp", "label", "label_known_at", "label_weight", "partition"})
"""Columns of every training set."""


def find_unknown_audited(use_case: UseCaseSpec, domain: DomainSpec) -> list[SpecError]:
    """Columns of `evaluation.slices` and `evaluation.sensitive` that are none; empty where all is well.

    A column is a feature of the use case, or one of the clean rows of its entity.
    """
    source = domain.sources.get(use_case.entity.source)
    if source is None:
        return []
    evaluation, features = use_case.evaluation, use_case.features.columns
    named = {f"slices.{place}": columns for place, columns in enumerate(evaluation.crossings)}
    named |= {f"sensitive.{place}": (column,) for place, column in enumerate(evaluation.sensitive)}
    known = list(dict.fromkeys([*features, *(name for name in source.clean_columns if name not in RESERVED)]))
    found = []
    for place, columns in named.items():
        for column in (item for item in columns if item not in known):
            reserved = column in RESERVED and column in source.clean_columns
            what, remedy = _reserved(column) if reserved else _unknown(column, use_case.entity.source, known)
            where = f"use_cases/{use_case.name}.yaml: evaluation.{place}"
            found.append(SpecError(what, where=where, remedy=remedy))
    return found


def _reserved(column: str) -> tuple[str, str]:
    what = f"clean column {column!r} has a name that every training set keeps for a column of its own"
    return what, f"give the clean column another name; kept are: {', '.join(sorted(RESERVED))}"


def _unknown(column: str, source: str, known: list[str]) -> tuple[str, str]:
    what = f"no column {column!r} to tell rows apart by: it is neither a feature nor a clean column of {source!r}"
    near = difflib.get_close_matches(column, known, n=1)
    return what, f"did you mean {near[0]!r}?" if near else f"name one of: {', '.join(known)}"
