"""What has to be computed anew because clean rows changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec import DomainSpec


def stale_features(domain: DomainSpec, changed: Sequence[str], *, settings: Settings) -> list[str]:
    """Partitions whose features rest on clean rows that changed, in order.

    Those are the changed ones, and of the ones that have features already all whose windows look back on them. Rows of
    a static source ("" among the changed) may stand behind any.

    Args:
        domain: the domain.
        changed: keys of partitions whose clean rows changed.
        settings: the installation.
    """
    tables = domain.feature_tables
    built = {key for name in tables for key in Table(settings.lake, domain.feature_table(name)).newest() if key}
    if "" in changed:
        return sorted(built | set(changed) - {""})
    reach = timedelta(days=max((table.look_back_days for table in tables.values()), default=0))
    found = set(changed)
    for key in changed:
        end = domain.partition(key).end + reach
        found |= {later for later in built if later > key and domain.partition(later).start < end}
    return sorted(found)
