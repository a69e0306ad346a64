"""The one place that reads the environment: where this installation keeps its things."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from millrace.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Paths and addresses of one installation. Everything mutable lives under `var`.

    Attributes:
        root: the checkout: `dags/`, `feature_repo/`, `constraints.txt`.
        var: all state of a local installation.
        dags: folder of the DAG files with `domains/`, `use_cases/` and `policies/` in it.
        feature_repo: the Feast repository.
        lake: URI or path under which Delta tables live, one folder a table.
        packages: content-addressed store of sealed packages, `<packages>/<digest>/`.
        reports: HTML for people: Data Docs, drift reports, model cards.
        state_url: SQLAlchemy URL of the state database (ledger, releases, verdicts).
        mlflow_url: tracking and registry URI of MLflow.
        registry_url: SQLAlchemy URL of Feast's registry.
        online_store: address of the online store: the path of a SQLite file, `redis://…` or `postgresql://…`.
        serving_url: base address of the online service.
        serving_dir: folder the online service reads its releases from.
        lock: the lock file the environment was installed from.
        airflow_url: base address of Airflow, which says who a person is.
        logins: file with the tokens that `millrace login` keeps, of this person alone.
        serving_token: bearer token that the online service asks for before it loads a release ("" where none is asked).
        privacy_key: key for personal data in hexadecimal ("" where `<var>/privacy.key` holds it).
        airflow_token: token of the person who acts by the CLI ("" where they logged in).
    """

    root: Path
    var: Path
    dags: Path
    feature_repo: Path
    lake: str
    packages: Path
    reports: Path
    state_url: str
    mlflow_url: str
    registry_url: str
    online_store: str
    serving_url: str
    serving_dir: Path
    lock: Path
    airflow_url: str
    logins: Path
    serving_token: str = field(default="", repr=False)
    privacy_key: str = field(default="", repr=False)
    airflow_token: str = field(default="", repr=False)

    @property
    def sql_folder(self) -> Path:
        """Folder of the domains' YAML, which the files of feature tables are named relative to."""
        return self.dags / "domains"

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read `MILLRACE_*` from the environment, else from `<var>/env.json`, else the defaults of a checkout.

        Raises:
            SettingsError: `env.json` is there but is not JSON.
        """
        env = dict(os.environ if environ is None else environ)
        root = Path(env.get("MILLRACE_ROOT") or _checkout()).resolve()
        var = Path(env.get("MILLRACE_VAR") or root / "var").resolve()
        env = {**_prepared(var / "env.json"), **{k: v for k, v in env.items() if v}}

        def path(name: str, default: Path) -> Path:
            return Path(env.get(f"MILLRACE_{name}", default))

        return cls(
            root=root,
            var=var,
            dags=path("DAGS", root / "dags"),
            feature_repo=path("FEATURE_REPO", root / "feature_repo"),
            lake=env.get("MILLRACE_LAKE", str(var / "lake")),
            packages=path("PACKAGES", var / "packages"),
            reports=path("REPORTS", var / "reports"),
            state_url=env.get("MILLRACE_STATE_URL", f"sqlite:///{var / 'state.db'}"),
            mlflow_url=env.get("MILLRACE_MLFLOW_URL", f"sqlite:///{var / 'mlflow' / 'mlflow.db'}"),
            registry_url=env.get("MILLRACE_REGISTRY_URL", f"sqlite:///{var / 'registry.db'}"),
            online_store=online_store(env) or str(var / "online" / "online.db"),
            serving_url=env.get("MILLRACE_SERVING_URL", "http://127.0.0.1:8090"),
            serving_dir=path("SERVING_DIR", var / "serving"),
            lock=root / "constraints.txt",
            serving_token=serving_token(env),
            privacy_key=env.get("MILLRACE_PRIVACY_KEY", ""),
            airflow_url=env.get("MILLRACE_AIRFLOW_URL", "http://127.0.0.1:8080"),
            airflow_token=env.get("MILLRACE_AIRFLOW_TOKEN", ""),
            logins=_logins(env, var),
        )


def serving_token(environ: Mapping[str, str] | None = None) -> str:
    """The bearer token of the online service, which reads no other setting but this and its online store."""
    return (os.environ if environ is None else environ).get("MILLRACE_SERVING_TOKEN", "")


def online_store(environ: Mapping[str, str] | None = None) -> str:
    """The address of the online store, which may hold a password ("" where none is given)."""
    return (os.environ if environ is None else environ).get("MILLRACE_ONLINE_STORE", "")


def readers(environ: Mapping[str, str] | None = None) -> frozenset[str]:
    """Top-level packages whose modules may read models of trainers outside Millrace, without an entry point."""
    named = (os.environ if environ is None else environ).get("MILLRACE_READERS", "")
    return frozenset(name.strip() for name in named.split(",") if name.strip())


def connection_text(name: str, environ: Mapping[str, str] | None = None) -> str | None:
    """What the environment holds of the Airflow connection of that name: a URI or JSON; None where nothing."""
    return (os.environ if environ is None else environ).get(f"AIRFLOW_CONN_{name.upper()}") or None


def _logins(environ: Mapping[str, str], var: Path) -> Path:
    """Below the person's own folder of settings, as the XDG base directory specification names it."""
    try:
        base = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    except RuntimeError:  # a user without a home, as in a container
        base = var
    return base / "millrace" / "logins.json"


def _checkout() -> Path:
    """The checkout this package runs from (an editable install), else the working directory."""
    here = Path(__file__).resolve().parents[2]
    return here if (here / "pyproject.toml").is_file() else Path.cwd()


def _prepared(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        found: dict[str, str] = orjson.loads(path.read_bytes()).get("environment", {})
    except (orjson.JSONDecodeError, AttributeError) as error:
        raise SettingsError(
            f"not JSON: {error}", where=str(path), remedy="remove the file and run `make up` again"
        ) from error
    return {name: value for name, value in found.items() if name.startswith("MILLRACE_")}


@functools.cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings.load()
