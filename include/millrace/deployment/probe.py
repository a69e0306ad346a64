"""The golden probe: the rows sealed in a package, asked of the live service, must come back as they were sealed."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.deployment.httpx_client import ServiceClient
from millrace.errors import DeploymentError
from millrace.package import Package

TOLERANCE = 1e-6
"""Greatest difference of a live golden prediction from the sealed one."""

_DATATYPE = {"number": "FP64", "category": "BYTES"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """What the live service answered.

    Attributes:
        release: version that it says it serves.
        package: digest that it says it serves.
        rows: golden rows sent.
        max_abs_diff: greatest difference from the sealed predictions.
    """

    release: int
    package: str
    rows: int
    max_abs_diff: float


def probe_service(client: ServiceClient, use_case: str, release: int, package: Package) -> ProbeReport:
    """Send the golden rows through the same door as every request, and compare.

    Features computed on demand are not sent, so that the service computes them.

    Args:
        client: the online service.
        use_case: name of the model.
        release: version that must answer.
        package: package that must answer.

    Raises:
        DeploymentError: another release answers, or other predictions, or nobody.
    """
    golden = package.golden
    datatypes = {column.name: _DATATYPE[column.kind] for column in package.features.inputs}
    answer = client.predict(use_case, {name: golden.columns[name] for name in datatypes}, datatypes)
    try:
        report = ProbeReport(
            release=int(answer["parameters"]["release"]),
            package=str(answer["parameters"]["package"]),
            rows=len(golden),
            max_abs_diff=golden.difference(answer["outputs"][0]["data"]),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DeploymentError(
            "the answer names no release, package and predictions",
            where=f"{client.url}/v2/models/{use_case}",
            remedy="see that MILLRACE_SERVING_URL is the address of the online service, and of this version",
        ) from error
    if (report.release, report.package) != (release, package.digest):
        raise DeploymentError(
            f"release {report.release} (package {report.package[:12]}) answers, "
            f"in force is {release} (package {package.digest[:12]})",
            where=f"{client.url}/v2/models/{use_case}",
            remedy="deploy the release again",
        )
    if not report.max_abs_diff <= TOLERANCE:
        raise DeploymentError(
            f"golden predictions come back {report.max_abs_diff:g} off, allowed is {TOLERANCE:g}",
            where=f"{client.url}/v2/models/{use_case}",
            remedy="roll back to the release before, and compare library versions with the package's manifest",
        )
    return report
