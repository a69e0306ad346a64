"""Evidently's report, for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa


def test_a_report_is_written_once_for_its_inputs_and_opens_no_socket(tmp_path: Path, monkeypatch: object) -> None:
    import socket

    from millrace.monitoring.evidently_report import write_report

    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)  # type: ignore[attr-defined]
    generator = np.random.default_rng(0)

    def rows(shift: float) -> pa.Table:
        return pa.table(
            {
                "moved": generator.normal(shift, 1, 400),
                "empty": pa.array([None] * 400, pa.float64()),
                "kind": pa.array(generator.choice(["a", "b", None], 400).tolist(), pa.string()),
            }
        )

    path = tmp_path / "drift" / "2013-04.html"
    before, now = rows(0), rows(2)
    assert write_report(path, before, now, categories=["kind"], limit=0.25, share=0.5, inputs="one")
    page = path.read_text()
    assert "moved" in page
    assert "kind" in page
    written = path.stat().st_mtime_ns
    assert not write_report(path, before, now, categories=["kind"], limit=0.25, share=0.5, inputs="one")
    assert path.stat().st_mtime_ns == written
    assert write_report(path, before, now, categories=["kind"], limit=0.25, share=0.5, inputs="two")
    assert list(path.parent.iterdir()) == [path]
