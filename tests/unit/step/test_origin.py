"""Where a package comes from, by the recipes there are of it."""

from __future__ import annotations

import dataclasses
import os

import pytest
from tests.unit.training.synthetic import make_job, make_use_case, training_rows

from millrace.governance.recipe import Recipe, recipe_folder, store_recipe
from millrace.package import Package
from millrace.settings import Settings
from millrace.step.origin import find_origin
from millrace.training import train_package


@pytest.fixture
def package(settings: Settings) -> Package:
    use_case = make_use_case(baseline={"trainer": "baseline"})
    rows = training_rows(use_case, ["2020-01", "2020-02"], 50)
    return train_package(make_job(use_case, "baseline", holdout="2020-03"), rows, store=settings.packages).package


def recipe(package: Package, number: int, settings: Settings, **more: object) -> Recipe:
    """A recipe of the package, kept `number` seconds after 1970."""
    made = Recipe(
        package=package.digest,
        use_case=package.manifest.use_case,
        candidate="baseline",
        trainer="baseline",
        seed=7,
        threads=1,
        params={},
        job="",
        training_set={},
        sources={},
        feature_service="sold_v1",
        python="3.11",
        platform="linux",
        libraries={},
        lock="a" * 64,
        commit=f"{number:040d}",
    )
    made = dataclasses.replace(made, **more)  # type: ignore[arg-type]
    path = recipe_folder(settings) / package.digest / f"{store_recipe(made, settings)}.json"
    os.utime(path, (number, number))
    return made


def test_the_first_recipe_of_a_clean_tree_counts_and_later_ones_change_nothing(
    settings: Settings, package: Package
) -> None:
    use_case = package.manifest.use_case
    recipe(package, 1, settings, tree="dirty")
    first = recipe(package, 2, settings, tree="clean")
    recipe(package, 3, settings, tree="clean")
    recipe(package, 4, settings, tree="clean", candidate="another")
    found = find_origin(use_case, "baseline", package, settings)
    assert (found.commit, found.tree, found.lock, found.recipe) == (first.commit, "clean", "a" * 64, first.digest)


def test_without_a_clean_tree_the_first_recipe_says_that_it_was_dirty(settings: Settings, package: Package) -> None:
    first = recipe(package, 1, settings, tree="dirty")
    recipe(package, 2, settings, tree="dirty")
    found = find_origin(package.manifest.use_case, "baseline", package, settings)
    assert (found.commit, found.tree) == (first.commit, "dirty")


def test_a_package_without_a_recipe_has_an_origin_that_says_nothing(settings: Settings, package: Package) -> None:
    found = find_origin(package.manifest.use_case, "baseline", package, settings)
    assert (found.commit, found.tree, found.lock, found.recipe, found.source) == ("", "none", "", "", "")
