"""Training: the training set of a use case, and its candidates."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from millrace.artifact import DatasetRef
from millrace.ingestion import Connections
from millrace.ingestion.connection import environment_connections
from millrace.package import FeatureSpec
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, refuse_leaks
from millrace.step.engine import engine_of, for_workers
from millrace.step.feature_registry import apply_features
from millrace.step.retrieval import load_functions
from millrace.step.retrieval_split import labelled_features
from millrace.training import assemble_training_set

log = logging.getLogger(__name__)


def build_training_set(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    holdout: str,
    *,
    settings: Settings,
    connections: Connections = environment_connections,
) -> DatasetRef:
    """Bring `<uc>/training_set/<service>` up to a holdout: labels, and features as known at each row's instant.

    Partitions whose clean rows, features and definitions did not change are not computed again. Several are worked on
    as the domain's engine does; of a single one the engine gets the entity rows, split by time.

    Args:
        use_case: whose training set.
        domain: its domain.
        holdout: key of the partition kept back for evaluation, the last one built.
        settings: this installation.
        connections: gives the connection of a name, where the domain's engine runs elsewhere.

    Returns:
        The whole table; `known_until` is the end of the holdout.

    Raises:
        TrainingError: a partition was never validated, or the holdout lies before the first.
        SpecError: a feature or the label's instant is known too late, by the domain's own word.
        EngineError: the domain's engine cannot be reached.
    """
    refuse_leaks(use_case, domain)
    features = FeatureSpec.of(use_case, domain)
    functions = load_functions(features, settings=settings).sources
    with engine_of(domain, connections=connections) as engine:
        joined = partial(labelled_features, use_case, domain, settings=for_workers(settings), engine=engine)

        def each(write: Callable[[str], DatasetRef], stale: Sequence[str]) -> Iterable[DatasetRef]:
            if stale and features.lookups:  # once, here, so that workers find it done
                apply_features(domain, [use_case], settings=settings)
            return engine.map(write, stale) if len(stale) > 1 else map(write, stale)

        return assemble_training_set(
            use_case, domain, holdout, lake=settings.lake, rows_of=joined, each=each, functions=functions
        )
