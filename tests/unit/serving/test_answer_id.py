from __future__ import annotations

import pytest

from millrace.serving.answer_id import AnswerId, AnswerIds


def test_an_id_tells_model_release_and_time_and_no_two_are_the_same() -> None:
    ids = AnswerIds(clock=lambda: 1_700_000_000_123_456_789)
    made = [ids.make("delay", 3) for _ in range(3)]
    assert len(set(made) | {AnswerIds(clock=lambda: 1_700_000_000_123_456_789).make("delay", 3)}) == 4
    for text, row in ((made[0], None), (f"{made[0]}.12", 12)):
        asked = AnswerId.parse(text)
        assert asked is not None
        assert (asked.use_case, asked.release, asked.answered_at, asked.row) == ("delay", 3, 1_700_000_000_123_456, row)
        assert made[0] == f"delay/3/{asked.name}"


@pytest.mark.parametrize(
    "text",
    ["", "P2021-04-3", "delay/3/P1", "delay/0/online-00060a24181e4000-5f0c9a31-0", "delay/3/online-1-2-3", "{}."],
)
def test_what_is_no_id_of_an_answer_is_none(text: str) -> None:
    assert AnswerId.parse(text.format(AnswerIds().make("delay", 3))) is None
