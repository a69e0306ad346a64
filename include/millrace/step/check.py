"""What `millrace check` asks: each rule gives a list of findings, empty where all is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from millrace.errors import MillraceError
from millrace.settings import Settings
from millrace.spec import (
    DomainSpec,
    PolicySpec,
    UseCaseSpec,
    find_leaks,
    list_specs,
    load_domain,
    load_policy,
    load_use_case,
)
from millrace.spec.audit import find_unknown_audited
from millrace.spec.holdout import find_odd_windows, find_short_holdout
from millrace.spec.wiring import find_doubled, find_unwatched


class NotTried(str):
    """Why something could not be told: no fault, and no word that all is right either."""

    __slots__ = ()


def check_policy_file(tier: str, *, settings: Settings) -> list[str]:
    """A policy alone: its keys, that it names each gate once, and that there are such gates with such arguments."""
    from millrace.evaluation.gate import check_gates_of

    return check_gates_of(load_policy(settings.dags, tier))


def check_dag_files(*, settings: Settings) -> list[str]:
    """All DAG files together: that no two make a DAG of one id."""
    return [str(fault) for fault in find_doubled(settings.dags)]


def check_domain(name: str, *, settings: Settings) -> list[str]:
    """A domain's keys and SQL files, and that its DAG file watches what the domain says it watches."""
    from millrace.engine import ray_fault

    domain = load_domain(settings.dags, name)
    fault = ray_fault(domain.compute, where=f"domains/{name}.yaml: compute.engine")
    unwatched = [str(found) for found in find_unwatched(settings.dags, domain)]
    return [*([str(fault)] if fault else []), *unwatched, *_feature_faults(domain, None, settings)]


def check_domain_leaks(name: str, *, settings: Settings) -> list[str]:
    """A domain's feature tables tried on made-up rows: that none knows the future, and look-backs are long enough."""
    from millrace.step.leak import check_leaks

    domain = load_domain(settings.dags, name)
    if _feature_faults(domain, None, settings):
        return [NotTried("a feature table is wrong, which the row `domain` tells")]
    found = check_leaks(domain, settings=settings)
    return [*(str(fault) for fault in found.faults), *(NotTried(why) for why in found.untried)]


def check_contracts(name: str, *, settings: Settings) -> list[str]:
    """Clean-up expressions compiled, and every expectation built by Great Expectations."""
    from millrace.step.validation import check_contract

    return check_contract(load_domain(settings.dags, name))


def check_use_case(name: str, *, settings: Settings) -> list[str]:
    """A use case's keys, its domain and entity, its candidates' parameters, the gates of its tier."""
    from millrace.evaluation.fairness import fairlearn_fault
    from millrace.evaluation.gate import check_policy

    use_case = load_use_case(settings.dags, name)
    where = f"use_cases/{name}.yaml"
    faults = []
    if use_case.domain not in list_specs(settings.dags, "domains"):
        return [f"there is no domain {use_case.domain!r}\n  where: {where}: domain\n  remedy: correct the name"]
    domain = load_domain(settings.dags, use_case.domain)
    source = domain.sources.get(use_case.entity.source)
    if source is None:
        known = ", ".join(domain.sources)
        return [
            f"domain {domain.name!r} has no source {use_case.entity.source!r}\n  where: {where}: entity.source"
            f"\n  remedy: name one of: {known}"
        ]
    faults += _column_faults(use_case, set(source.clean_columns), where)
    faults += _candidate_faults(use_case, domain, settings)
    faults += _engine_faults(use_case)
    faults += [str(fault) for fault in find_leaks(use_case, domain)]
    faults += [str(fault) for fault in find_unknown_audited(use_case, domain)]
    faults += [str(fault) for fault in (*find_short_holdout(use_case, domain), *find_odd_windows(use_case, domain))]
    if fault := fairlearn_fault(use_case):
        faults.append(str(fault))
    policy = load_policy(settings.dags, use_case.tier)
    return [*faults, *_missing_candidates(use_case, policy, where), *check_policy(policy, use_case)]


def _column_faults(use_case: UseCaseSpec, columns: set[str], where: str) -> list[str]:
    named = {
        "entity.key": use_case.entity.key,
        "entity.timestamp": use_case.entity.timestamp,
        "label.known_at": use_case.label.known_at,
        **{f"leaks.{column}": column for column in use_case.leaks},
    }
    return [
        f"no clean column {column!r}\n  where: {where}: {key}\n  remedy: name one of: {', '.join(sorted(columns))}"
        for key, column in named.items()
        if column not in columns
    ]


def _missing_candidates(use_case: UseCaseSpec, policy: PolicySpec, where: str) -> list[str]:
    """Too few for the policy, or no baseline where a gate wants one beaten."""
    faults = []
    if len(use_case.candidates) < policy.min_candidates:
        faults.append(
            f"{len(use_case.candidates)} candidates, policy {policy.tier!r} asks for {policy.min_candidates}"
            f"\n  where: {where}: candidates\n  remedy: add candidates"
        )
    gates = [*policy.gates_for(use_case.problem), *use_case.gates]
    trainers = {spec.trainer for spec in use_case.candidates.values()}
    if "baseline" not in trainers and any(gate.kind == "beats_baseline" for gate in gates):
        faults.append(
            f"policy {policy.tier!r} wants the baseline beaten, and no candidate is a baseline"
            f"\n  where: {where}: candidates\n  remedy: add `baseline: {{trainer: baseline}}`"
        )
    return faults


def require_gates(use_case: UseCaseSpec, domain: DomainSpec, policy: PolicySpec) -> None:
    """Refuse a use case whose gates, or columns to tell rows apart by, do not exist; light enough to parse a DAG by.

    Raises:
        SpecError: names file, key and remedy.
    """
    from millrace.evaluation.gate import load_gates

    for fault in find_unknown_audited(use_case, domain):
        raise fault
    load_gates(policy, use_case)


def _candidate_faults(use_case: UseCaseSpec, domain: DomainSpec, settings: Settings) -> list[str]:
    """What a candidate asks of its trainer, the classes and features it names, and its lock."""
    from millrace.training.check import check_job
    from millrace.training.isolation.lock import read_lock
    from millrace.training.job import TrainingJob
    from millrace.training.registry import check_candidate
    from millrace.training.tuning.search_space import check_space

    faults = []
    for name, spec in use_case.candidates.items():
        job = TrainingJob(
            use_case=use_case, domain=domain, candidate=name, table="", holdout=domain.first, known_until=""
        )
        try:
            check_candidate(spec, use_case.problem, where=job.where, weighted=bool(use_case.label.weight))
            check_space(spec, where=job.where)
            if spec.monotone or spec.class_weight:
                check_job(job)
            if spec.environment:
                read_lock(settings.dags, spec.environment.lock)
        except MillraceError as error:
            faults.append(str(error))
    return faults


def _engine_faults(use_case: UseCaseSpec) -> list[str]:
    """Ray asked for and not installed, or needed and not asked for."""
    from millrace.engine import ray_fault

    where = f"use_cases/{use_case.name}.yaml"
    if use_case.compute.engine == "ray":
        fault = ray_fault(use_case.compute, where=f"{where}: compute.engine")
        return [str(fault)] if fault else []
    return [
        f"{spec.workers} workers train together on Ray alone\n  where: {where}: candidates.{name}.workers"
        "\n  remedy: set compute.engine: ray, or take `workers` away"
        for name, spec in use_case.candidates.items()
        if spec.workers > 1
    ]


def check_use_case_features(name: str, *, settings: Settings) -> list[str]:
    """A use case's feature service against the domain's feature tables and SQL."""
    use_case = load_use_case(settings.dags, name)
    domain = load_domain(settings.dags, use_case.domain)
    return _feature_faults(domain, use_case, settings)


def connection_rules(settings: Settings) -> dict[str, Callable[[], list[str]]]:
    """What is connected to, by name: the state database, the registry, the online service, the lake."""
    return {
        "state database": lambda: _answers(_reach_state, settings, "is PostgreSQL up? `make up`"),
        "MLflow": lambda: _answers(_reach_mlflow, settings, "is its server up? `make up`"),
        "online service": lambda: _answers(_reach_service, settings, "is it up? `make up`"),
        "lake": lambda: _answers(_reach_lake, settings, "make the folder writable for this user"),
    }


def _answers(reach: Callable[[Settings], None], settings: Settings, remedy: str) -> list[str]:
    try:
        reach(settings)
    except MillraceError as error:
        return [str(error)]
    except OSError as error:
        return [f"{error}\n  remedy: {remedy}"]
    return []


def _reach_state(settings: Settings) -> None:
    from millrace.governance.ledger import Ledger

    Ledger(settings).head()


def _reach_mlflow(settings: Settings) -> None:
    from millrace.registry.mlflow_client import is_server

    if is_server(settings.mlflow_url):
        _get(f"{settings.mlflow_url}/health")


def _reach_service(settings: Settings) -> None:
    _get(f"{settings.serving_url}/v2/health/ready")


def _get(url: str) -> None:
    import httpx

    try:
        httpx.get(url, timeout=5, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise OSError(f"{url}: {error}") from error


def _reach_lake(settings: Settings) -> None:
    if "://" in settings.lake:
        return
    lake = Path(settings.lake)
    lake.mkdir(parents=True, exist_ok=True)
    probe = lake / ".writable"
    probe.touch()
    probe.unlink()


def _feature_faults(domain: DomainSpec, use_case: UseCaseSpec | None, settings: Settings) -> list[str]:
    from millrace.step.features import check_features

    return [str(fault) for fault in check_features(domain, use_case, settings=settings)]
