"""Parameters, figures, curves and samples of the machine, sent to MLflow in batches: never a call a round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from millrace.artifact import canonical
from millrace.registry.base import RunContent

_METRICS_A_BATCH = 900
_PARAMS_A_BATCH = 100
_LONGEST = 6000
"""What MLflow keeps of a parameter's value."""


def log_figures(
    client: Any, run: Any, params: Mapping[str, Any], metrics: Mapping[str, float], content: RunContent
) -> None:
    """Log all of them; doing it twice leaves what doing it once does.

    MLflow tells two points of a metric apart by time, step and value. So that a second try adds none, the times of
    figures and curves are counted from the start of the run.
    """
    from mlflow.entities import Param

    values = [Param(name, _text(value)[:_LONGEST]) for name, value in sorted(params.items())]
    for start in range(_PARAMS_A_BATCH, len(values), _PARAMS_A_BATCH):
        client.log_batch(run.info.run_id, params=values[start : start + _PARAMS_A_BATCH], synchronous=True)
    values = values[:_PARAMS_A_BATCH]
    points = _points(int(run.info.start_time), metrics, content)
    while True:
        batch = list(islice(points, _METRICS_A_BATCH))
        if batch or values:
            client.log_batch(run.info.run_id, metrics=batch, params=values, synchronous=True)
        if len(batch) < _METRICS_A_BATCH:
            return
        values = []


def _points(moment: int, metrics: Mapping[str, float], content: RunContent) -> Iterator[Any]:
    from mlflow.entities import Metric

    for name, value in sorted(metrics.items()):
        if name not in content.curves:  # the curve ends in it; a point at step 0 would stand before its first
            yield Metric(name, float(value), moment, 0)
    for name, curve in sorted(content.curves.items()):
        for step, value in curve:
            yield Metric(name, float(value), moment + step, step)
    for step, (at, sample) in enumerate(content.samples):
        for name, value in sorted(sample.items()):
            yield Metric(f"system/{name}", float(value), at, step)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value).decode()
