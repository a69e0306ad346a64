"""Figures of the service in Prometheus' text format, kept in plain dictionaries: one process, one thread."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping

BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the latency histogram in seconds."""


class Metrics:
    """Counters and latency histograms by model and protocol. Only names of loaded models become labels."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self.rows: dict[tuple[str, str], int] = defaultdict(int)
        self.unknown: dict[tuple[str, str], int] = defaultdict(int)
        self.sampled: Mapping[tuple[str, str], int] = {}
        self.loads: dict[tuple[str, str], int] = defaultdict(int)
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._seconds: dict[tuple[str, str], float] = defaultdict(float)

    def observe(self, model: str, protocol: str, status: int, seconds: float) -> None:
        """One answered request; its latency counts where it was an inference that reached a model."""
        self.requests[(model, protocol, status)] += 1
        if model:
            key = (model, protocol)
            counts = self._buckets.get(key)
            if counts is None:
                counts = self._buckets[key] = [0] * (len(BUCKETS) + 1)
            counts[bisect_left(BUCKETS, seconds)] += 1
            self._seconds[key] += seconds

    def render(self, releases: Iterable[Mapping[str, str]]) -> bytes:
        """All figures as text; `releases` are the labels of what is served."""
        out: list[str] = []
        _head(out, "millrace_requests_total", "counter", "Requests answered, by model, protocol and status.")
        for (model, protocol, status), count in self.requests.items():
            out.append(f"millrace_requests_total{_labels(model=model, protocol=protocol, status=str(status))} {count}")
        _head(out, "millrace_errors_total", "counter", "Requests answered with an error (status 400 and above).")
        for (model, protocol, status), count in self.requests.items():
            if status >= 400:
                out.append(
                    f"millrace_errors_total{_labels(model=model, protocol=protocol, status=str(status))} {count}"
                )
        _head(out, "millrace_request_seconds", "histogram", "Seconds from request to answer, without the network.")
        for (model, protocol), counts in self._buckets.items():
            total = 0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
                total += count
                out.append(
                    f"millrace_request_seconds_bucket{_labels(model=model, protocol=protocol, le=bound)} {total}"
                )
            labels = _labels(model=model, protocol=protocol)
            out.append(f"millrace_request_seconds_sum{labels} {self._seconds[(model, protocol)]:.9f}")
            out.append(f"millrace_request_seconds_count{labels} {total}")
        _head(out, "millrace_rows_total", "counter", "Rows predicted, by where their features came from.")
        for (model, source), count in self.rows.items():
            out.append(f"millrace_rows_total{_labels(model=model, source=source)} {count}")
        _head(out, "millrace_unknown_entities_total", "counter", "Lookups that found nothing in the online store.")
        for (model, view), count in self.unknown.items():
            out.append(f"millrace_unknown_entities_total{_labels(model=model, view=view)} {count}")
        _head(out, "millrace_sampled_rows_total", "counter", "Rows drawn for comparison, by what became of them.")
        for (model, outcome), count in list(self.sampled.items()):
            out.append(f"millrace_sampled_rows_total{_labels(model=model, outcome=outcome)} {count}")
        _head(out, "millrace_loads_total", "counter", "Releases asked to be loaded, by outcome.")
        for (model, outcome), count in self.loads.items():
            out.append(f"millrace_loads_total{_labels(model=model, outcome=outcome)} {count}")
        _head(out, "millrace_release_info", "gauge", "The release in service; always 1.")
        out.extend(f"millrace_release_info{_labels(**labels)} 1" for labels in releases)
        return ("\n".join(out) + "\n").encode()


def _head(out: list[str], name: str, kind: str, text: str) -> None:
    out.append(f"# HELP {name} {text}")
    out.append(f"# TYPE {name} {kind}")


def _labels(**labels: str) -> str:
    escaped = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
