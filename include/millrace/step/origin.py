"""Where a package comes from: the code, the lock and the recipe it was trained by."""

from __future__ import annotations

from millrace.evaluation.finding import Origin
from millrace.governance.recipe import Recipe, find_recipes
from millrace.package import Package
from millrace.package.layout import IMPORTED
from millrace.settings import Settings
from millrace.step.imported import imported_origin


def find_origin(use_case: str, candidate: str, package: Package, settings: Settings) -> Origin:
    """The origin of a candidate's package, by its first recipe of a clean tree, else by its first one.

    A package may be trained again, by other code, to the same bytes; the first recipe stays the one that counts, so
    that evidence does. A package without a recipe has an origin that says so: its fields are empty.

    Args:
        use_case: name of the use case.
        candidate: name of the candidate in the spec.
        package: what was sealed.
        settings: this installation.

    Raises:
        DocumentError: a recipe is not what its digest says.
    """
    if package.manifest.trainer == IMPORTED:
        return imported_origin(package)
    found = find_recipes(package.digest, settings)
    own = [item for item in found if (item.use_case, item.candidate) == (use_case, candidate)]
    return _told(_first(own)) if own else Origin(commit="", tree="none", lock="", recipe="")


def _first(newest_first: list[Recipe]) -> Recipe:
    clean = [item for item in newest_first if item.tree == "clean"]
    return (clean or newest_first)[-1]


def _told(recipe: Recipe) -> Origin:
    return Origin(commit=recipe.commit, tree=recipe.tree, lock=recipe.lock, recipe=recipe.digest)
