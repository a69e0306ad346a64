from __future__ import annotations

from millrace.governance.monitor_result import MonitorResults
from millrace.settings import Settings


def test_the_newest_result_stands(settings: Settings) -> None:
    results = MonitorResults(settings)
    results.put("u", "2013-04", "drift", {"psi": 0.1})
    results.put("u", "2013-04", "drift", {"psi": 0.2})
    results.put("u", "2013-04", "performance", {"auc": 0.7})
    results.put("u", "2013-05", "drift", {"psi": 0.3})
    results.put("v", "2013-04", "drift", {"psi": 0.9})
    assert results.get("u", "2013-04", "drift") == {"psi": 0.2}
    assert results.get("u", "2013-06", "drift") is None
    assert [(item.partition, item.kind) for item in results.list("u")] == [
        ("2013-04", "drift"),
        ("2013-04", "performance"),
        ("2013-05", "drift"),
    ]
    assert [item.payload for item in results.list("u", kind="drift")] == [{"psi": 0.2}, {"psi": 0.3}]
