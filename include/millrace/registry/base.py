"""What registration hands on."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.artifact import PlainValue

CHALLENGER = "challenger"
CHAMPION = "champion"
PACKAGE_TAG = "millrace.package"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModel(PlainValue):
    """A version of a registered model.

    Attributes:
        name: registered model: the use case.
        version: its version there.
        digest: digest of the package.
        run_id: run that the package lies with.
        evidence: digest of the evidence bundle it was registered on.
        policy: digest of the policy.
    """

    name: str
    version: int
    digest: str
    run_id: str
    evidence: str
    policy: str
