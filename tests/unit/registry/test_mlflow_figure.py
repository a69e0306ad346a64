from __future__ import annotations

from millrace.registry.base import RunContent
from millrace.registry.mlflow_figure import _points


def test_the_last_value_of_a_curve_is_no_point_at_its_start() -> None:
    points = list(_points(0, {"train_loss": 0.1, "rows": 5.0}, RunContent(curves={"train_loss": [(0, 0.9), (9, 0.1)]})))
    assert [(item.step, item.value) for item in points if item.key == "train_loss"] == [(0, 0.9), (9, 0.1)]
    assert [item.value for item in points if item.key == "rows"] == [5.0]
