"""Training must lie before the holdout, in every respect."""

from __future__ import annotations

from datetime import UTC, datetime

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import Answer, Gate


class TimeOrdered(Gate):
    """Fails where a training partition or event is not before the holdout, a row is in both, or a label is from later.

    A label counts as from later when it became known after the cut, the instant up to which the run may know things.
    """

    def answer(self, evidence: Evidence) -> Answer:
        """Insufficient where there are no training rows."""
        time = evidence.time
        faults = []
        if not time.training_partitions or not time.training_last_event:
            unknown = "It was trained elsewhere, and nobody declares through when."
            sentence = unknown if time.declared else "There are no training rows to compare with."
            return Answer(outcome="insufficient_data", sentence=sentence)
        first, last = min(time.training_partitions), max(time.training_partitions)
        if last >= (time.holdout_first or time.holdout):
            faults.append(f"training reaches into {last}, the holdout is {time.measured_on}")
        if _moment(time.training_last_event) >= _moment(time.holdout_start):
            faults.append(f"a training row is of {time.training_last_event}, the holdout begins {time.holdout_start}")
        if _moment(time.training_last_event) >= _moment(time.holdout_first_event):
            faults.append("training and holdout rows interleave in time, as after a random split")
        if time.rows_in_both:
            faults.append(f"{time.rows_in_both} rows are in training and holdout")
        if _moment(time.last_label_known_at) > _moment(time.cut):
            faults.append(f"a label became known {time.last_label_known_at}, after the cut {time.cut}")
        if time.training_label_known_at and _moment(time.training_label_known_at) > _moment(time.holdout_start):
            told = f"a label trained on became known {time.training_label_known_at}"
            faults.append(f"{told}, the holdout begins {time.holdout_start}")
        numbers = {
            "partitions": float(len(time.training_partitions)),
            "rows_in_both": float(time.rows_in_both),
        }
        if faults:
            return Answer(outcome="fail", numbers=numbers, sentence=f"Order in time is broken: {'; '.join(faults)}.")
        if time.declared:
            sentence = f"Trained elsewhere, through {last} as is declared; measured on {time.measured_on}."
            return Answer(outcome="pass", numbers=numbers, sentence=sentence)
        measured = f"Trained on {first} to {last}, measured on {time.measured_on}"
        sentence = f"{measured}; no row in both, labels known by the cut."
        return Answer(outcome="pass", numbers=numbers, sentence=sentence)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.max.replace(tzinfo=UTC)


GATE = TimeOrdered
