"""Where the embedded installation keeps its things under `var/`."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from millrace.errors import SettingsError

MARKER = ".millrace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Paths of one embedded installation, all derived from `root`, `var` and `dags`.

    Attributes:
        root: the checkout.
        var: everything mutable.
        dags: folder of the DAG files.
    """

    root: Path
    var: Path
    dags: Path

    @property
    def airflow(self) -> Path:
        """`AIRFLOW_HOME`."""
        return self.var / "airflow"

    @property
    def logs(self) -> Path:
        """One log file a service."""
        return self.var / "logs"

    @property
    def run(self) -> Path:
        """Locks and the record of what runs."""
        return self.var / "run"

    @property
    def secrets(self) -> Path:
        """Generated secrets, mode 0600 in a folder of mode 0700."""
        return self.var / "secrets"

    @property
    def artifacts(self) -> Path:
        """What MLflow's server stores for its clients."""
        return self.var / "mlflow" / "artifacts"

    @property
    def lineage(self) -> Path:
        """OpenLineage events, one JSON document a line."""
        return self.var / "lineage" / "openlineage.jsonl"

    @property
    def database(self) -> Path:
        """Data directory of the embedded PostgreSQL."""
        return self.var / "postgres" / "data"

    @property
    def environment(self) -> Path:
        """What `prepare` decided: environment, addresses, users."""
        return self.var / "env.json"

    @property
    def state(self) -> Path:
        """What the supervisor runs at the moment."""
        return self.run / "stack.json"

    @property
    def identity(self) -> str:
        """Short name of this installation on this machine."""
        return hashlib.sha256(os.fsencode(self.var.resolve())).hexdigest()[:10]

    def log(self, service: str) -> Path:
        """The log file of a service."""
        return self.logs / f"{service}.log"

    def create(self) -> None:
        """Make every folder; what is there stays as it is.

        Raises:
            SettingsError: `var/` cannot be written, or is a folder of somebody else's.
        """
        try:
            known = self.var.is_dir() and any(self.var.iterdir())
            self.var.mkdir(parents=True, exist_ok=True)
            marker = self.var / MARKER
            if not marker.exists():
                if known and not _is_ours(self.var):
                    raise SettingsError(
                        f"{self.var} holds files that are not Millrace's",
                        where="MILLRACE_VAR",
                        remedy="name an empty or new folder in MILLRACE_VAR",
                    )
                marker.write_text("state of a local Millrace installation; `make clean` removes this folder\n")
            for folder in (self.airflow, self.logs, self.run, self.artifacts, self.lineage.parent, *self._stages()):
                folder.mkdir(parents=True, exist_ok=True)
            self.database.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            self.secrets.mkdir(mode=0o700, exist_ok=True)
            self.secrets.chmod(0o700)
            (self.run / ".writable").write_text("")
        except OSError as error:
            raise SettingsError(
                f"cannot write under {self.var}: {error.strerror}",
                where=str(error.filename or self.var),
                remedy=f"`sudo chown -R $(id -un) '{self.var}'`, or set MILLRACE_VAR to another folder",
            ) from error

    def _stages(self) -> tuple[Path, ...]:
        names = ("lake", "packages", "reports", "online", "serving", "airflow/logs", "tmp")
        return tuple(self.var / name for name in names)


def _is_ours(var: Path) -> bool:
    """Whether all that is in a `var/` without a marker was made by this project's tests, demo or CLI."""
    ours = {
        "lake",
        "packages",
        "recipes",
        "training",
        "environments",
        "worktrees",
        "evidence",
        "references",
        "reports",
        "online",
        "serving",
        "mlflow",
        "demo",
        "test",
        "tmp",
    }
    databases = ("state.db", "registry.db")  # beside each lie its journal and its locks
    return all(entry.name in ours or entry.name.startswith(databases) for entry in var.iterdir())
