"""Histograms, the stability index and the reference of a release."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import DocumentError
from millrace.monitoring.drift import (
    FLOOR,
    DriftReport,
    divergence,
    measure_column,
    measure_columns,
    stability_index,
    summarise,
)
from millrace.monitoring.histogram import count, learn_histogram
from millrace.monitoring.reference import build_reference, load_reference, load_sample
from millrace.settings import Settings
from millrace.spec import UseCaseSpec, load_use_case

shares = st.lists(st.integers(0, 1000), min_size=3, max_size=8).filter(lambda items: sum(items) > 0)


@pytest.fixture
def use_case(settings: Settings) -> UseCaseSpec:
    return load_use_case(settings.dags, "flight_delay")


def training_rows(use_case: UseCaseSpec, size: int, seed: int = 0) -> pa.Table:
    generator = np.random.default_rng(seed)
    columns = {}
    for name in use_case.features.columns:
        if name in use_case.features.categories:
            columns[name] = pa.array(generator.choice(["A", "B", None], size).tolist(), pa.string())
        else:
            columns[name] = pa.array(generator.normal(size=size), mask=generator.random(size) < 0.05)
    return pa.table(columns)


def test_the_stability_index_is_the_published_formula() -> None:
    before, now = np.array([100, 300, 600]), np.array([200, 300, 500])
    expected = (0.2 - 0.1) * math.log(2) + 0 + (0.5 - 0.6) * math.log(5 / 6)
    assert stability_index(before, now) == pytest.approx(expected)
    emptied = stability_index(np.array([500, 500]), np.array([0, 1000]))
    assert emptied == pytest.approx((FLOOR - 0.5) * math.log(FLOOR / 0.5) + 0.5 * math.log(2))


@settings(max_examples=60, deadline=None)
@given(before=shares, now=shares, times=st.integers(2, 50))
def test_indices_are_never_negative_symmetric_and_blind_to_size(before: list[int], now: list[int], times: int) -> None:
    size = min(len(before), len(now))
    one, other = np.array(before[:size]), np.array(now[:size])
    if one.sum() == 0 or other.sum() == 0:
        return
    for measure in (stability_index, divergence):
        assert measure(one, other) >= 0
        assert measure(one, other) == pytest.approx(measure(other, one))
        assert measure(one, one * times) == pytest.approx(0, abs=1e-12)
    assert divergence(one, other) <= 1 + 1e-12


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.floats(allow_infinity=True, allow_nan=True)), min_size=1, max_size=80),
    new=st.lists(st.one_of(st.none(), st.floats()), min_size=1, max_size=80),
)
def test_every_number_falls_into_one_bin(values: list[float | None], new: list[float | None]) -> None:
    column = pa.array(values, pa.float64())
    histogram = learn_histogram(column, "number")
    assert histogram.rows == len(values)
    assert count(histogram, pa.array(new, pa.float64())).sum() == len(new)
    assert histogram.edges == sorted(set(histogram.edges))
    assert measure_column("x", histogram, column).psi == 0


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.text(max_size=2)), min_size=1, max_size=80),
    new=st.lists(st.one_of(st.none(), st.text(max_size=2)), min_size=1, max_size=80),
)
def test_every_category_falls_into_one_bin(values: list[str | None], new: list[str | None]) -> None:
    column = pa.chunked_array([pa.array(values, pa.string())])
    histogram = learn_histogram(column, "category")
    assert histogram.rows == len(values)
    found = count(histogram, pa.array(new, pa.string()))
    assert found.sum() == len(new)
    assert found[-1] == new.count(None)
    assert found[-2] == sum(item is not None and item not in histogram.values for item in new)


def test_bins_are_quantiles_and_missing_values_are_a_bin_of_their_own() -> None:
    histogram = learn_histogram(pa.array([*range(1000), *[None] * 100], pa.float64()), "number")
    assert histogram.counts[:-1] == pytest.approx([100] * 10, abs=1)
    assert histogram.counts[-1] == 100
    drift = measure_column("x", histogram, pa.array([None] * 900 + [5.0] * 100, pa.float64()))
    assert drift.missing == 0.9
    assert drift.missing_before == pytest.approx(1 / 11, abs=1e-6)
    assert drift.psi > 1
    assert drift.floored == 9


def test_a_shifted_feature_is_named_first_and_the_others_are_not(use_case: UseCaseSpec, settings: Settings) -> None:
    rows = training_rows(use_case, 4000)
    reference = load_reference(
        build_reference(use_case, rows, np.linspace(0, 1, 500), settings=settings), settings=settings
    )
    new = training_rows(use_case, 3000, seed=1)
    place = new.column_names.index("temp")
    new = new.set_column(place, "temp", pa.array(np.random.default_rng(2).normal(2, 1, 3000)))
    columns = measure_columns(reference, {name: new.column(name) for name in new.column_names})
    names, number, share, psi = summarise(columns, 0.25)
    assert names == ["temp"] == list(psi)
    assert (number, share) == (1, round(1 / len(columns), 6))
    report = DriftReport(use_case="u", partition="p", drifted=names, psi=psi)
    assert DriftReport.from_dict(report.to_dict()) == report


def test_a_reference_is_the_same_for_the_same_rows_and_brings_its_sample(
    use_case: UseCaseSpec, settings: Settings
) -> None:
    rows, predictions = training_rows(use_case, 5000), np.linspace(0, 1, 300)
    digest = build_reference(use_case, rows, predictions, settings=settings)
    again = pa.concat_tables([rows.slice(0, 1234), rows.slice(1234)])
    assert build_reference(use_case, again, predictions, settings=settings) == digest
    assert build_reference(use_case, rows.slice(1), predictions, settings=settings) != digest
    reference = load_reference(digest, settings=settings)
    sample = load_sample(digest, reference, settings=settings)
    assert sample.num_rows == use_case.monitoring.report_rows
    assert sample.column_names == [*use_case.features.columns, "prediction"]


def test_a_reference_or_sample_that_was_changed_or_is_gone_is_refused(
    use_case: UseCaseSpec, settings: Settings
) -> None:
    digest = build_reference(use_case, training_rows(use_case, 500), np.zeros(10), settings=settings)
    other = build_reference(use_case, training_rows(use_case, 600), np.zeros(10), settings=settings)
    reference, folder = load_reference(digest, settings=settings), settings.var / "references"
    (folder / f"{digest}.parquet").write_bytes((folder / f"{other}.parquet").read_bytes())
    with pytest.raises(DocumentError, match="was changed"):
        load_sample(digest, reference, settings=settings)
    (folder / f"{digest}.parquet").write_bytes(b"PAR1")
    with pytest.raises(DocumentError, match="cannot be read"):
        load_sample(digest, reference, settings=settings)
    (folder / f"{digest}.json").unlink()
    with pytest.raises(DocumentError, match="no document"):
        load_reference(digest, settings=settings)
