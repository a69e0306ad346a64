"""Releases: package, evidence, policy, feature service, threshold and reference as one unit, and which is in force.

What is in force is read off the ledger: the last `released` or `rolled_back` entry by (`effective_at`, `seq`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Row, Select, select
from sqlalchemy.engine import Connection

from millrace.artifact import PlainValue, iso
from millrace.errors import ReleaseRefusedError
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.state import LEDGER, RELEASE, moment_of, reading, stamp
from millrace.settings import Settings
from millrace.spec.use_case import UseCaseSpec

UseCase = UseCaseSpec | str
_MOVES = ("released", "rolled_back")
_ByService = dict[str, list["Release"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(PlainValue):
    """One release of a use case.

    Attributes:
        use_case: its use case.
        version: number, from 1.
        package: digest of the sealed package.
        candidate: name of the candidate in the spec.
        trainer: trainer that made it.
        trained_through: key of the last training partition.
        holdout: key of the partition it was evaluated on, the last where there are several.
        effective_at: ISO instant in data time from which it is in force.
        evidence: digest of the evidence bundle.
        policy: digest of the policy it was judged under.
        feature_service: Feast feature service it reads.
        threshold: decision threshold.
        reference: digest of the drift reference.
        registry_version: version of the registered model in MLflow.
        replaces: version of the champion it was compared with; 0 where there was none.
    """

    use_case: str
    version: int
    package: str
    candidate: str
    trainer: str
    trained_through: str
    holdout: str
    effective_at: str
    evidence: str
    policy: str
    feature_service: str
    threshold: float
    reference: str
    registry_version: int = 0
    replaces: int = 0


@dataclass(frozen=True, slots=True)
class Releases:
    """The releases of an installation. `use_case` is a spec or its name; `connection` a transaction to read in."""

    settings: Settings

    def in_force(
        self, use_case: UseCase, at: datetime | None = None, *, connection: Connection | None = None
    ) -> Release | None:
        """The release in force at an instant of data time, or as of everything that was decided."""
        reached = [] if at is None else [LEDGER.c.effective_at <= stamp(at)]
        return self._after_moves(use_case, reached, connection)

    def champion_for(
        self, use_case: UseCase, at: datetime, packages: Collection[str] = (), *, connection: Connection | None = None
    ) -> Release | None:
        """The champion that candidates for a release at `at` have to be compared with.

        That is the release in force at `at`, rollbacks and releases at this very instant included; except that
        where one of `packages` was itself released at `at`, it is the champion from before that release, so that
        the same run evaluated again finds what it found the first time.
        """
        with self._reader(connection) as reader:
            own = select(RELEASE.c.ledger_seq).where(
                RELEASE.c.use_case == name_of(use_case),
                RELEASE.c.effective_at == stamp(at),
                RELEASE.c.package.in_(list(packages)),
            )
            first = reader.execute(own.order_by(RELEASE.c.ledger_seq).limit(1)).scalar()
            reached = [LEDGER.c.effective_at <= stamp(at)]
            if first is not None:
                reached.append((LEDGER.c.effective_at < stamp(at)) | (LEDGER.c.seq < first))
            return self._after_moves(use_case, reached, reader)

    def recorded(self, use_case: UseCase, at: datetime, *, connection: Connection | None = None) -> Release | None:
        """The release that was in force by what had been written at an instant of wall time."""
        return self._after_moves(use_case, [LEDGER.c.recorded_at <= stamp(at)], connection)

    def move(
        self, use_case: UseCase, at: datetime | None = None, *, connection: Connection | None = None
    ) -> Entry | None:
        """The entry that put in force what `in_force` gives: its release, or a rollback to it.

        Raises:
            LedgerError: it cannot be read.
        """
        reached = [] if at is None else [LEDGER.c.effective_at <= stamp(at)]
        with self._reader(connection) as reader:
            seq = reader.execute(self._moves(use_case, reached).with_only_columns(LEDGER.c.seq)).scalar()
            return None if seq is None else Ledger(self.settings).get(seq, connection=reader)

    def get(self, use_case: UseCase, version: int, *, connection: Connection | None = None) -> Release:
        """One release.

        Raises:
            ReleaseRefusedError: there is none of that version; the message lists those there are.
        """
        with self._reader(connection) as reader:
            found = _rows(reader, select(RELEASE).where(_of(use_case), RELEASE.c.version == version))
            if found:
                return found[0]
            known = self.list(use_case, connection=reader)
        listed = ", ".join(f"{item.version} ({item.candidate}, from {item.effective_at[:10]})" for item in known)
        raise ReleaseRefusedError(
            f"{name_of(use_case)!r} has no release {version}",
            where=f"releases of {name_of(use_case)}",
            remedy=f"name one of: {listed}" if known else "train and release a model first",
        )

    def list(self, use_case: UseCase, *, connection: Connection | None = None) -> list[Release]:
        """All releases of a use case by version."""
        with self._reader(connection) as reader:
            return _rows(reader, select(RELEASE).where(_of(use_case)).order_by(RELEASE.c.version))

    def by_service(self) -> _ByService:
        """Feature service → the releases of all use cases that were made on it."""
        with self._reader(None) as reader:
            found = _rows(reader, select(RELEASE).order_by(RELEASE.c.use_case, RELEASE.c.version))
        services: _ByService = {}
        for release in found:
            services.setdefault(release.feature_service, []).append(release)
        return services

    def first(self, use_case: UseCase) -> Release | None:
        """The first release of a use case."""
        return next(iter(self.list(use_case)), None)

    def find(
        self, use_case: UseCase, package: str, evidence: str, effective_at: datetime, *, connection: Connection
    ) -> Release | None:
        """The release already made of the same package, on the same evidence, for the same instant."""
        same = (RELEASE.c.package == package, RELEASE.c.evidence == evidence)
        query = select(RELEASE).where(_of(use_case), *same, RELEASE.c.effective_at == stamp(effective_at))
        return next(iter(_rows(connection, query)), None)

    def add(self, release: Release, *, actor: str, note: dict[str, Any], connection: Connection) -> Entry:
        """Write a release and its ledger entry; whoever calls has asked for proof and holds the transaction."""
        effective_at = moment_of(release.effective_at)
        entry = Ledger(self.settings).append(
            "released",
            use_case=release.use_case,
            subject=release.package,
            effective_at=effective_at,
            actor=actor,
            payload={"version": release.version, "release": release.to_dict(), **note},
            key=f"{release.package}/{release.evidence}/{release.effective_at}",
            connection=connection,
        )
        row = {**release.to_dict(), "effective_at": stamp(effective_at), "ledger_seq": entry.seq}
        connection.execute(RELEASE.insert().values(row))
        return entry

    def _after_moves(
        self, use_case: UseCase, reached: Sequence[ColumnElement[bool]], connection: Connection | None
    ) -> Release | None:
        with self._reader(connection) as reader:
            payload = reader.execute(self._moves(use_case, reached)).scalar()
            if payload is None:
                return None
            return self.get(use_case, int(orjson.loads(payload)["version"]), connection=reader)

    @staticmethod
    def _moves(use_case: UseCase, reached: Sequence[ColumnElement[bool]]) -> Select[Any]:
        """The newest move of those reached."""
        moves = select(LEDGER.c.payload).where(LEDGER.c.use_case == name_of(use_case), LEDGER.c.kind.in_(_MOVES))
        return moves.where(*reached).order_by(LEDGER.c.effective_at.desc(), LEDGER.c.seq.desc()).limit(1)

    @contextlib.contextmanager
    def _reader(self, connection: Connection | None) -> Iterator[Connection]:
        if connection is not None:
            yield connection
        else:
            with reading(self.settings) as reader:
                yield reader


def name_of(use_case: UseCase) -> str:
    """Name of a use case, given its spec or the name itself."""
    return use_case if isinstance(use_case, str) else use_case.name


def _of(use_case: UseCase) -> ColumnElement[bool]:
    return RELEASE.c.use_case == name_of(use_case)


def _rows(connection: Connection, query: Select[Any]) -> list[Release]:
    return [_release(row) for row in connection.execute(query)]


def _release(row: Row[Any]) -> Release:
    plain = dict(row._mapping)
    return Release.from_dict({**plain, "effective_at": iso(moment_of(plain["effective_at"]))})
