"""Classes of resources: candidates that need the same of Airflow are mapped together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow.sdk import conf

from millrace.spec.candidate import CandidateSpec, ResourceSpec

_TASK = "train_candidate"
_DATA_TO_TASK = 2
"""A task takes about twice what its training data may take: the data, and the library's own form of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceClass:
    """Candidates that Airflow runs under the same conditions.

    Attributes:
        task_id: `train_candidate`, with what is special about it where there are several.
        candidates: their names.
        arguments: queue, pool, slots, the executor's configuration and the time they may take.
    """

    task_id: str
    candidates: tuple[str, ...]
    arguments: Mapping[str, Any]


def resource_classes(candidates: Mapping[str, CandidateSpec], *, longest: timedelta) -> list[ResourceClass]:
    """The classes of the candidates, in the order of their first ones.

    Args:
        candidates: name → spec.
        longest: how long a training may take beside its tuning.
    """
    pods = "Kubernetes" in str(conf.get("core", "executor", fallback=""))
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, spec in candidates.items():
        groups.setdefault(_key(spec.resources, pods=pods), []).append(name)
    labels = _labels(list(groups))
    return [
        ResourceClass(
            task_id=_TASK + (f"_{label}" if label else ""),
            candidates=tuple(names),
            arguments=_arguments([candidates[name] for name in names], longest, pods=pods),
        )
        for label, names in zip(labels, groups.values(), strict=True)
    ]


def _key(needs: ResourceSpec, *, pods: bool) -> tuple[Any, ...]:
    """What a class is told apart by: names and values that are not the default."""
    told = ("queue", "pool", "pool_slots", *(("cpu", "memory", "gpu") if pods else ()))
    defaults = ResourceSpec()
    return tuple((name, value) for name in told if (value := getattr(needs, name)) != getattr(defaults, name))


def _labels(keys: list[tuple[Any, ...]]) -> list[str]:
    if len(keys) == 1:
        return [""]
    labels: list[str] = []
    for key in keys:
        parts = [str(value) if name in {"queue", "pool"} else f"{name}{value}" for name, value in key]
        label = re.sub(r"[^A-Za-z0-9]+", "_", "_".join(parts)).strip("_").lower()
        labels.append(label if label not in labels else f"{label}_{len(labels) + 1}")
    return labels


def _arguments(specs: list[CandidateSpec], longest: timedelta, *, pods: bool) -> dict[str, Any]:
    needs = specs[0].resources
    minutes = max((spec.tuning.minutes for spec in specs if spec.tuning), default=0.0)
    arguments: dict[str, Any] = {"execution_timeout": longest + timedelta(minutes=minutes)}
    if needs.queue:
        arguments["queue"] = needs.queue
    if needs.pool:
        arguments |= {"pool": needs.pool, "pool_slots": needs.pool_slots}
    if pods and (override := _pod(needs)):
        arguments["executor_config"] = {"pod_override": override}
    return arguments


def _pod(needs: ResourceSpec) -> Any:
    """What the task's pod asks for; None where the spec names nothing."""
    from kubernetes.client import models as k8s

    requests: dict[str, str] = {} if needs.cpu is None else {"cpu": str(needs.cpu)}
    if "memory" in needs.model_fields_set:
        requests["memory"] = str(needs.memory_bytes * _DATA_TO_TASK)
    limits = {"nvidia.com/gpu": str(needs.gpu)} if needs.gpu else {}
    if not requests and not limits:
        return None
    container = k8s.V1Container(name="base", resources=k8s.V1ResourceRequirements(requests=requests, limits=limits))
    return k8s.V1Pod(spec=k8s.V1PodSpec(containers=[container]))
