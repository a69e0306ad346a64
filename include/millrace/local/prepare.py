"""Make everything under `var/` that the services need, and write down what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from millrace.errors import SettingsError
from millrace.local import secret
from millrace.local.environment import airflow_environment, common_environment
from millrace.local.layout import Layout
from millrace.local.port import choose_ports
from millrace.local.postgres import database_urls
from millrace.local.user import choose_users, keep_passwords


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What `prepare` decided, as kept in `env.json`.

    Attributes:
        environment: variables of every component; those that start with `AIRFLOW` are for Airflow's alone.
        addresses: what a person opens or calls: `airflow`, `mlflow`, `serving`.
        users: role of each Airflow user.
        ports: port by service.
        moved: services whose default port was taken, with that default.
    """

    environment: dict[str, str]
    addresses: dict[str, str]
    users: dict[str, str]
    ports: dict[str, int]
    moved: dict[str, int]

    def of_airflow(self) -> dict[str, str]:
        """Variables of Airflow's components."""
        return dict(self.environment)

    def of_others(self) -> dict[str, str]:
        """Variables of the components that have no business with Airflow's secrets."""
        return {name: value for name, value in self.environment.items() if not name.startswith("AIRFLOW")}

    def as_document(self) -> dict[str, Any]:
        """The content of `env.json`."""
        return {
            "environment": self.environment,
            "addresses": self.addresses,
            "users": self.users,
            "ports": self.ports,
            "moved": self.moved,
        }


def prepare(layout: Layout, environ: Mapping[str, str]) -> Installation:
    """Create folders, secrets and `env.json`; repeating it changes nothing but ports that were taken meanwhile.

    Args:
        layout: where.
        environ: the caller's environment (ports, users, parallelism, places that are not the default).

    Raises:
        SettingsError: `var/` is not writable, a port is taken, a number or a user is none.
    """
    layout.create()
    last = _last(layout)
    ports = choose_ports(environ, last.ports if last else None)
    users = choose_users(environ, last.users if last else None)
    passwords = layout.secrets / "airflow_passwords.json"
    keep_passwords(passwords, users)
    secrets = {
        "fernet_key": secret.keep_secret(layout.secrets / "fernet_key", secret.make_fernet_key),
        "jwt_secret": secret.keep_secret(layout.secrets / "jwt_secret", secret.make_token),
        "api_secret_key": secret.keep_secret(layout.secrets / "api_secret_key", secret.make_token),
        "passwords_file": str(passwords),
    }
    databases = database_urls(layout)
    common = common_environment(layout, ports, databases, environ)
    common["MILLRACE_SERVING_TOKEN"] = secret.keep_secret(layout.secrets / "serving_token", secret.make_token)
    airflow = airflow_environment(
        layout, ports, databases, secrets, _parallelism(environ), users=users, environ=environ
    )
    installation = Installation(
        environment={**common, **airflow},
        addresses={name: common[f"MILLRACE_{name.upper()}_URL"] for name in ("airflow", "mlflow", "serving")},
        users=users,
        ports={"airflow": ports.airflow, "mlflow": ports.mlflow, "serving": ports.serving},
        moved=ports.moved,
    )
    secret.write_private(
        layout.environment, orjson.dumps(installation.as_document(), option=orjson.OPT_INDENT_2) + b"\n"
    )
    return installation


def load_installation(layout: Layout) -> Installation:
    """Read back what `prepare` decided.

    Raises:
        SettingsError: nothing was prepared, or the file is damaged.
    """
    try:
        found = orjson.loads(layout.environment.read_bytes())
        return Installation(**{name: found[name] for name in ("environment", "addresses", "users", "ports", "moved")})
    except FileNotFoundError as error:
        raise SettingsError("nothing is prepared", where=str(layout.environment), remedy="run `make up`") from error
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise SettingsError(
            f"damaged: {error}", where=str(layout.environment), remedy="remove the file and run `make up` again"
        ) from error


def read_password(layout: Layout, user: str = "admin") -> str:
    """The generated password of an Airflow user."""
    path = layout.secrets / "airflow_passwords.json"
    try:
        return str(orjson.loads(path.read_bytes())[user])
    except (OSError, orjson.JSONDecodeError, KeyError) as error:
        raise SettingsError(f"no password of {user!r}", where=str(path), remedy="run `make up`") from error


def _last(layout: Layout) -> Installation | None:
    """What was decided at the last start; nothing where there was none, or its record is damaged."""
    try:
        return load_installation(layout)
    except SettingsError:
        return None


def _parallelism(environ: Mapping[str, str]) -> int:
    text = environ.get("MILLRACE_PARALLELISM", "").strip() or "4"
    if not text.isdigit() or not 1 <= int(text) <= 256:
        raise SettingsError(
            f"{text!r} tasks at once", where="MILLRACE_PARALLELISM", remedy="give a number from 1 to 256"
        )
    return int(text)
