from __future__ import annotations

from millrace.serving.metric import Metrics


def test_figures_are_rendered_as_prometheus_reads_them() -> None:
    metrics = Metrics()
    metrics.observe("m", "v2", 200, 0.0004)
    metrics.observe("m", "v2", 200, 0.003)
    metrics.observe("m", "v2", 400, 9.0)
    metrics.observe("", "v2", 404, 0.1)
    lines = metrics.render([{"model": "m", "release": "3", "package": 'a"b\\c\n'}]).decode().splitlines()
    assert 'millrace_requests_total{model="m",protocol="v2",status="200"} 2' in lines
    assert 'millrace_errors_total{model="",protocol="v2",status="404"} 1' in lines
    assert 'millrace_request_seconds_bucket{model="m",protocol="v2",le="0.0005"} 1' in lines
    assert 'millrace_request_seconds_bucket{model="m",protocol="v2",le="0.005"} 2' in lines
    assert 'millrace_request_seconds_bucket{model="m",protocol="v2",le="+Inf"} 3' in lines
    assert 'millrace_request_seconds_count{model="m",protocol="v2"} 3' in lines
    assert 'millrace_release_info{model="m",release="3",package="a\\"b\\\\c\\n"} 1' in lines
    assert all(line.startswith("#") or line.rsplit(" ", 1)[1].replace(".", "").isdigit() for line in lines)
