"""Import: a model that was trained elsewhere, as a candidate beside those that are trained here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from millrace.artifact import DatasetRef
from millrace.errors import SpecError
from millrace_airflow.lineage import FILE, NotedDataset, package
from millrace_airflow.links import RegistryLink, RunbookLink
from millrace_airflow.operators.base import UseCaseOperator, acting_user, tell_verdict
from millrace_airflow.operators.training import training_run


class ImportModelOperator(UseCaseOperator):
    """Take a model in, seal its package and log it; gates, approval and release are those of any other candidate.

    Args:
        source: path of a model file, folder of an MLflow model, or an address such as `models:/name/3`.
        signature: its declared signature as JSON: the signature itself, its text in YAML, or the path of its file.
        training_set: reference made by `BuildTrainingSetOperator`.
    """

    template_fields: Sequence[str] = ("use_case", "partition", "source", "signature", "training_set")
    operator_extra_links: ClassVar[Sequence[Any]] = (RegistryLink(), RunbookLink())

    def __init__(self, *, source: str, signature: str, training_set: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.signature = signature
        self.training_set = training_set

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the reference of the model.

        Raises:
            ModelImportError: the model is not what was declared, or not what the use case asks for.
            SpecError: the signature is wrong.
        """
        from millrace.step.importing import import_model

        training_set = DatasetRef.from_dict(self.training_set)
        self.note_read(training_set)
        self.lineage.inputs.append(NotedDataset(namespace="model", name=self.source, kind=FILE))
        done = import_model(
            self.use_case_spec(),
            self.domain_spec(),
            self.source,
            self._declared(),
            training_set,
            settings=self.settings,
            run_key=training_run(context),
        )
        model = done.model
        self.lineage.outputs.append(package(model))
        self.links["MLflow"] = f"{self.settings.mlflow_url}/#/runs/{model.run_id}" if model.run_id else ""
        told = " ".join(done.notes) or "Its examples are predicted as they were declared."
        tell_verdict(context, f"{model.candidate} of {self.source}, imported by {acting_user(context)}. {told}")
        return model.to_dict()

    def _declared(self) -> Any:
        from millrace.step.import_source import read_signature

        where = f"task {self.task_id}: signature"
        try:
            given = json.loads(self.signature)
        except ValueError as error:
            raise SpecError(f"not JSON: {error}", where=where, remedy="give a path, or the signature itself") from error
        return read_signature(given, where=where)
