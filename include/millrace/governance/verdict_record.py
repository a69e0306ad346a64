"""The gates' verdict as an entry of the ledger: the last one on a package, its evidence and its policy counts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from millrace.artifact import canonical, digest_of
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.state import writing


def note_verdict(
    ledger: Ledger, use_case: str, package: str, *, effective_at: datetime, actor: str, payload: Mapping[str, Any]
) -> Entry:
    """Write a verdict, unless the last one on the same package, evidence and policy says the same.

    Gates that answer pass, then fail, then pass again (one was changed and changed back) have answered three times.

    Args:
        ledger: where to.
        use_case: name of the use case.
        package: digest of the package that was judged.
        effective_at: instant in data time of the judgement.
        actor: who asked the gates.
        payload: `outcome`, `evidence`, `policy` and what else there is to say.
    """
    with writing(ledger.settings) as connection:
        judged = [
            entry
            for entry in ledger.entries(use_case, kinds=("gates_evaluated",), subject=package, connection=connection)
            if all(entry.payload.get(name) == payload[name] for name in ("evidence", "policy"))
        ]
        if judged and canonical(judged[-1].payload) == canonical(dict(payload)):
            return judged[-1]
        return ledger.append(
            "gates_evaluated",
            use_case=use_case,
            subject=package,
            effective_at=effective_at,
            actor=actor,
            payload=payload,
            key=digest_of({"payload": dict(payload), "package": package, "after": judged[-1].hash if judged else ""}),
            connection=connection,
        )
