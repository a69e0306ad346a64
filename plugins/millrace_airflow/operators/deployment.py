"""Deployment: the release in force on the online service, proven by a live probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from millrace_airflow.lineage import release_of, served_model
from millrace_airflow.links import RunbookLink, ServiceLink
from millrace_airflow.operators.base import UseCaseOperator, acting_user, handed_on


class DeployReleaseOperator(UseCaseOperator):
    """Have the online service load a release. What the ledger says is in force is what gets deployed.

    Args:
        release: what `ReleaseModelOperator` or `RollbackReleaseOperator` returned.
    """

    template_fields: Sequence[str] = ("use_case", "partition", "release")
    operator_extra_links: ClassVar[Sequence[Any]] = (ServiceLink(), RunbookLink())

    def __init__(self, *, release: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.release = release

    def execute(self, context: Any) -> dict[str, Any]:
        """Return what is served."""
        from millrace.governance.release import Release, Releases
        from millrace.step.deployment import deploy_release

        asked = Release.from_dict(handed_on(self.release, "release"))
        served = deploy_release(self.use_case_spec(), asked, settings=self.settings, actor=acting_user(context))
        loaded = Releases(self.settings).get(self.use_case, served["release"])
        self.lineage.inputs.append(release_of(loaded.to_dict()))
        self.lineage.outputs.append(served_model(self.use_case, loaded.version))
        self.links["Online service"] = f"{self.settings.serving_url}/v2/models/{self.use_case}"
        return served


class VerifyDeploymentOperator(UseCaseOperator):
    """Send the package's golden rows to the live service and compare with its golden predictions."""

    operator_extra_links: ClassVar[Sequence[Any]] = (ServiceLink(), RunbookLink())

    def execute(self, context: Any) -> dict[str, Any]:
        """Return rows compared and the largest difference."""
        from millrace.step.deployment import verify_deployment

        self.links["Online service"] = f"{self.settings.serving_url}/v2/models/{self.use_case}"
        verified = verify_deployment(self.use_case_spec(), settings=self.settings)
        self.lineage.inputs.append(served_model(self.use_case, verified.get("release", "")))
        return verified
