"""A model that was trained elsewhere becomes a sealed package, to be judged like one that was trained here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from millrace.artifact import DatasetRef, ModelRef, iso
from millrace.errors import ModelImportError, PackageError, SpecError, TrainingError
from millrace.lake import Table
from millrace.package import (
    FeatureSpec,
    Library,
    Manifest,
    ModelFile,
    Package,
    Predictor,
    TrainingRecord,
    seal_package,
)
from millrace.package.declaration import Declared, lay_out
from millrace.package.layout import IMPORTED, pack
from millrace.package.learning import Vocabularies
from millrace.package.predictor import load_model
from millrace.partition import Partition
from millrace.registry.base import RunContent
from millrace.registry.mlflow_tracking import log_candidate
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, refuse_leaks
from millrace.spec.holdout import held_out, span
from millrace.spec.signature import SignatureSpec
from millrace.step.import_proof import check_examples, prove
from millrace.step.import_source import Found, fetch
from millrace.step.retrieval import load_functions
from millrace.step.training import build_training_set
from millrace.training import TrainingRows, find_holdout
from millrace.training.data.training_set import open_training_set
from millrace.training.golden import GoldenSearch

log = logging.getLogger(__name__)
MODEL_FORMAT = "imported-zip"
_MODEL_FILE = "model.zip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """An import.

    Attributes:
        model: the sealed package.
        notes: sentences for people: what is not known of it, and what was assumed.
        gap: greatest difference from the examples of the signature; None where it has none.
    """

    model: ModelRef
    notes: list[str]
    gap: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sealed:
    package: Package
    notes: list[str]
    gap: float | None


def import_model(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    source: str,
    signature: SignatureSpec,
    training_set: DatasetRef,
    *,
    settings: Settings,
    run_key: str = "",
    logged: bool = True,
) -> Imported:
    """Take a model in: hold it against the feature service, prove it on rows of the use case, seal and log it.

    The rows are those before the holdout: nothing of the holdout itself is looked at. Equal files, signatures and rows
    give an equal package.

    Args:
        use_case: whose candidate it becomes.
        domain: the domain of that.
        source: path of a file (ONNX, skops, or xgboost's or lightgbm's own), folder of an MLflow model, or an address
            of MLflow's, such as `models:/name/3`.
        signature: what was declared with it.
        training_set: what `build_training_set` gave; its last partition is the holdout.
        settings: this installation.
        run_key: names the training run that it is shown under in MLflow.
        logged: whether it goes to MLflow; without, it cannot be registered.

    Raises:
        ModelImportError: the file, or what it answers, is not what was declared, or not what the use case asks for.
        SpecError: the name is one of the use case's own candidates, or `trained_through` is no partition, or one of
            the holdout or later.
        TrainingError: the training set has no rows before the holdout.
        RegistryUnavailableError: MLflow does not answer.
    """
    refuse_leaks(use_case, domain)
    _require_apart(use_case, domain, signature, held_out(use_case, domain, find_holdout(domain, training_set).key))
    found = fetch(source, signature, settings=settings)
    sealed = _seal(use_case, domain, signature, found, training_set, settings=settings)
    model = _reference(sealed.package)
    for note in sealed.notes:
        log.info("%s: %s", signature.name, note)
    if logged:
        model = _logged(use_case, model, sealed.package, settings=settings, run_key=run_key)
    return Imported(model=model, notes=sealed.notes, gap=sealed.gap)


def _require_apart(
    use_case: UseCaseSpec, domain: DomainSpec, signature: SignatureSpec, holdout: Sequence[Partition]
) -> None:
    """The model is none of the use case's own, and saw nothing of the holdout by its own declaration."""
    if signature.name in use_case.candidates:
        raise SpecError(
            f"{signature.name!r} is a candidate that {use_case.name!r} trains itself",
            where="signature: name",
            remedy="give the model from elsewhere a name of its own",
        )
    kept = use_case.evaluation.holdout_partitions
    if (through := signature.trained_through) is not None and domain.partition(through).end > holdout[0].start:
        raise SpecError(
            f"it learned from rows through {through}, and is to be measured on {span(holdout)}",
            where="signature: trained_through",
            remedy=f"name a holdout after {domain.partition(through).shift(kept - 1).key}",
        )


def _reference(package: Package) -> ModelRef:
    made = package.manifest
    return ModelRef(
        use_case=made.use_case,
        candidate=made.candidate,
        trainer=made.trainer,
        digest=package.digest,
        trained_through=made.training.trained_through,
        holdout=made.training.holdout,
    )


def newest_training_set(use_case: UseCaseSpec, domain: DomainSpec, holdout: str, *, settings: Settings) -> DatasetRef:
    """The training set up to a holdout, or up to the last partition it has where none is named, brought up to date.

    Raises:
        TrainingError: none was built yet, or a partition was never validated.
    """
    last = holdout or max(Table(settings.lake, use_case.service_table("training_set")).newest(), default="")
    if not last:
        raise TrainingError(
            f"{use_case.name!r} has no training set yet",
            where=use_case.service_table("training_set"),
            remedy="name a holdout: the last partition with labels",
        )
    return build_training_set(use_case, domain, last, settings=settings)


def _seal(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    signature: SignatureSpec,
    found: Found,
    training_set: DatasetRef,
    *,
    settings: Settings,
) -> _Sealed:
    """The package, proven on rows before the holdout."""
    holdout, features = find_holdout(domain, training_set), FeatureSpec.of(use_case, domain)
    first = held_out(use_case, domain, holdout.key)[0]
    cut = iso(first.start)
    rows = open_training_set(
        use_case,
        training_set,
        lake=settings.lake,
        through=first.shift(-1).key,
        known_until=cut,
        hidden=features.hidden,
    )
    functions = load_functions(features, settings=settings)
    search, texts = _look(rows, features, where=training_set.table)
    declared = lay_out(
        signature, use_case, features, found.description, told=found.told, texts_of=lambda name: texts.get(name, [])
    )
    manifest = _manifest(use_case, signature, found, training_set, holdout=holdout.key, known_until=cut)
    content = pack(declared.layout, found.description.content)
    predictor = Predictor(declared.encoder, _load(manifest, declared, content))
    golden = prove(search, features, functions, predictor, manifest)
    gap = check_examples(signature, features, predictor)
    package = seal_package(
        settings.packages,
        manifest,
        features=features,
        encoder=declared.encoder,
        golden=golden,
        model=content,
        functions=functions,
    )
    return _Sealed(package=package, notes=declared.notes, gap=gap)


def _look(rows: TrainingRows, features: FeatureSpec, *, where: str) -> tuple[GoldenSearch, dict[str, list[str]]]:
    """Rows to prove it by, and the categories there are, in one pass."""
    if not rows.num_rows:
        raise TrainingError(
            "there are no rows before the holdout to prove a model on",
            where=where,
            remedy="choose a later holdout, or bring earlier partitions in",
        )
    search = GoldenSearch(rows.num_rows, features.inputs)
    known = Vocabularies(dict.fromkeys(features.categories, "category"))
    names = list(dict.fromkeys([*(column.name for column in features.inputs), *features.categories]))
    for batch in rows.batches(names):
        search.look(batch)
        known.look({name: batch.column(name) for name in features.categories})
    return search, {column.name: column.vocabulary for column in known.encoder(scaled=False).columns}


def _manifest(
    use_case: UseCaseSpec,
    signature: SignatureSpec,
    found: Found,
    training_set: DatasetRef,
    *,
    holdout: str,
    known_until: str,
) -> Manifest:
    about = found.description
    return Manifest(
        use_case=use_case.name,
        candidate=signature.name,
        trainer=IMPORTED,
        problem=use_case.problem,
        params={"source": signature.source, "format": about.format, "sha256": found.digest, "threads": 1},
        seed=0,
        library=Library(name=about.library, version=about.version),
        model=ModelFile(name=_MODEL_FILE, format=MODEL_FORMAT),
        training=TrainingRecord(
            table=training_set.table,
            digest="",
            rows=0,
            partitions=[],
            trained_through=signature.trained_through or "",
            holdout=holdout,
            known_until=known_until,
        ),
        facts={
            **about.facts,
            **dict(found.facts),
            "declared": {"trained_through": signature.trained_through, "library": signature.library},
        },
        classes=list(use_case.classes),
    )


def _load(manifest: Manifest, declared: Declared, content: bytes) -> Any:
    try:
        return load_model(
            MODEL_FORMAT,
            content,
            encoder=declared.encoder,
            problem=manifest.problem,
            threads=1,
            classes=len(manifest.classes),
            trainer=IMPORTED,
        )
    except PackageError as error:
        raise ModelImportError(error.what, where=f"model {manifest.candidate!r}", remedy=error.remedy) from error


def _logged(use_case: UseCaseSpec, model: ModelRef, package: Package, *, settings: Settings, run_key: str) -> ModelRef:
    size = sum(map(len, package.content.values()))
    run_id = log_candidate(
        use_case,
        model,
        dict(package.manifest.params),
        {"package_bytes": float(size)},
        package.folder,
        settings=settings,
        run_key=run_key,
        content=RunContent(),
    )
    log.info("model %s of %s imported as package %s", model.candidate, use_case.name, package.digest)
    return ModelRef(**{**model.to_dict(), "run_id": run_id})
