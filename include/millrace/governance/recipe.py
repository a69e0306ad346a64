"""Recipes: all that has to be put together again to train a sealed model a second time.

A recipe is a document under the sha256 of its bytes, in the folder of the package it led to. The package itself knows
nothing of it: the same bytes may come of several commits, and then have several recipes.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from millrace.artifact import PlainValue, canonical
from millrace.document import load_document, store_document, write_atomically
from millrace.errors import DocumentError, RebuildError
from millrace.governance.git_tree import GitTree
from millrace.governance.tuning_record import TuningRecord
from millrace.settings import Settings

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(PlainValue):
    """How a package came to be.

    Attributes:
        package: digest of the package.
        use_case: its use case.
        candidate: name of the candidate in the spec.
        trainer: trainer that made it.
        seed: seed of everything random.
        threads: cores it was trained on.
        params: parameters of the trainer, defaults and what tuning found included.
        job: sha256 of the stored training job: the specs and functions as they were.
        training_set: snapshot of the training set (table, version, digest, `known_until`).
        sources: table of the lake → version and digest of the clean and feature partitions that the rows rest on.
        feature_service: version of the feature service (a changed definition has a new name).
        python: version of Python.
        platform: operating system and kind of processor.
        libraries: distribution → version of all that training rests on.
        lock: sha256 of the stored lock they were installed from ("" where there is none).
        isolated: whether the candidate trained in an environment of its own; `lock` is then the candidate's.
        commit: the commit checked out ("" where there is none).
        tree: `clean`; `dirty` where files that decide results differed from it; `none` where git could not say.
        changed: the first of those files.
        tuning: how the parameters were found; None where nothing was searched.
        format: version of this layout.
    """

    package: str
    use_case: str
    candidate: str
    trainer: str
    seed: int
    threads: int
    params: dict[str, Any]
    job: str
    training_set: dict[str, Any]
    sources: dict[str, dict[str, Any]]
    feature_service: str
    python: str
    platform: str
    libraries: dict[str, str]
    lock: str = ""
    isolated: bool = False
    commit: str = ""
    tree: Literal["clean", "dirty", "none"] = "none"
    changed: list[str] = field(default_factory=list)
    tuning: TuningRecord | None = None
    format: int = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """JSON types; `tuning` is there only where something was searched, so that older recipes keep their bytes."""
        plain = PlainValue.to_dict(self)
        return {name: value for name, value in plain.items() if name != "tuning" or value}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The value that `to_dict` was called on."""
        known = {item.name for item in dataclasses.fields(cls)}
        values = {name: value for name, value in plain.items() if name in known}
        tuning = plain.get("tuning")
        return cls(**{**values, "tuning": TuningRecord.from_dict(tuning) if tuning else None})

    @property
    def digest(self) -> str:
        """sha256 of its document."""
        return hashlib.sha256(canonical(self.to_dict())).hexdigest()

    def describe_tree(self) -> str:
        """For a sentence that starts `trained from a working tree that was`."""
        return GitTree(state=self.tree, commit=self.commit, changed=self.changed).describe()


def recipe_folder(settings: Settings) -> Path:
    """Where recipes and the texts they name are kept."""
    return settings.var / "recipes"


def store_recipe(recipe: Recipe, settings: Settings) -> str:
    """Keep a recipe; its digest. The same recipe is kept once."""
    return store_document(recipe_folder(settings) / recipe.package, recipe.to_dict())


def find_recipes(package: str, settings: Settings) -> list[Recipe]:
    """The recipes of a package: those of a clean tree first, the newest of them before the others.

    Raises:
        DocumentError: one is not what its digest says.
    """
    folder = recipe_folder(settings) / package
    paths = sorted(folder.glob("*.json"), key=lambda path: (-path.stat().st_mtime_ns, path.name))
    found = [Recipe.from_dict(load_document(folder, path.stem)) for path in paths]
    return sorted(found, key=lambda recipe: recipe.tree != "clean")


def find_tuning(use_case: str, candidate: str, package: str, settings: Settings) -> TuningRecord | None:
    """How the parameters of a candidate's package were found, by the first of its recipes that says so.

    Raises:
        DocumentError: a recipe is not what its digest says.
    """
    asked = (use_case, candidate)
    found = (item.tuning for item in find_recipes(package, settings) if (item.use_case, item.candidate) == asked)
    return next((tuning for tuning in found if tuning is not None), None)


def require_recipe(package: str, settings: Settings) -> Recipe:
    """The recipe to rebuild a package by.

    Raises:
        RebuildError: it has none.
        DocumentError: one is not what its digest says.
    """
    if found := find_recipes(package, settings):
        return found[0]
    raise RebuildError(
        f"package {package[:12]} has no recipe",
        where=str(recipe_folder(settings)),
        remedy="restore the folder from a backup; models trained without one cannot be rebuilt",
    )


def store_text(text: str, settings: Settings) -> str:
    """Keep a text that recipes name under the sha256 of its bytes; that digest ("" for an empty one)."""
    if not text:
        return ""
    content = text.encode()
    digest = hashlib.sha256(content).hexdigest()
    path = _text_path(digest, settings)
    if not path.is_file():
        write_atomically(path, content)
    return digest


def load_text(digest: str, settings: Settings) -> str:
    """A text that a recipe names.

    Raises:
        DocumentError: it is gone, or its bytes are not those its digest names.
    """
    if not digest:
        return ""
    path = _text_path(digest, settings)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DocumentError("a text of a recipe is gone", where=str(path), remedy="restore it from a backup") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise DocumentError("a text of a recipe was changed", where=str(path), remedy="restore it from a backup")
    return content.decode()


def _text_path(digest: str, settings: Settings) -> Path:
    return recipe_folder(settings) / "texts" / digest
