"""The package must fit where it is deployed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import Answer, Gate


class PackageSize(Gate):
    """Fails where the files of the challenger's package are larger than `max_megabytes` (10^6 bytes) together."""

    max_megabytes: Annotated[float, Field(gt=0)]

    def answer(self, evidence: Evidence) -> Answer:
        """Counts bytes on disk."""
        megabytes = evidence.challenger_score.bytes / 1e6
        numbers = {"megabytes": round(megabytes, 3), "max_megabytes": self.max_megabytes}
        fits = megabytes <= self.max_megabytes
        sentence = f"The package has {megabytes:.2f} MB; {self.max_megabytes:g} MB are allowed."
        return Answer(outcome="pass" if fits else "fail", numbers=numbers, sentence=sentence)


GATE = PackageSize
