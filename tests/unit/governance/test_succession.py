from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.governance.test_proof import make

from millrace.errors import ReleaseRefusedError
from millrace.governance.ledger import Ledger
from millrace.governance.release import Releases
from millrace.governance.succession import Rollback, restore
from millrace.settings import Settings
from millrace.spec import load_use_case

T = datetime(2013, 4, 1, 4, tzinfo=UTC)
BACK = Rollback(version=1, reason="slow", actor="oncall", key="run 1")


def test_a_rollback_goes_to_a_proven_release_only(settings: Settings) -> None:
    use_case = load_use_case(settings.dags, "flight_delay")
    first, second = make(settings), make(settings, 2)
    evidence = settings.var / "evidence" / f"{first.evidence}.json"
    kept = evidence.read_bytes()
    evidence.unlink()
    head = Ledger(settings).head()
    with pytest.raises(ReleaseRefusedError, match="cannot be had"):
        restore(settings, use_case, BACK)
    assert (Ledger(settings).head(), Releases(settings).in_force(use_case)) == (head, second)
    evidence.write_bytes(kept)
    assert restore(settings, use_case, BACK) == first == Releases(settings).in_force(use_case)


def test_a_release_in_force_that_lost_its_proof_does_not_hold_up_the_way_back(settings: Settings) -> None:
    use_case = load_use_case(settings.dags, "flight_delay")
    first, second = make(settings), make(settings, 2)
    (settings.var / "evidence" / f"{second.evidence}.json").unlink()
    assert restore(settings, use_case, BACK) == first
    (entry,) = Ledger(settings).entries(kinds=("rolled_back",))
    assert entry.effective_at == T + timedelta(days=60)
