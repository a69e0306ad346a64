from __future__ import annotations

from datetime import UTC, datetime

import pytest
from markdown_it import MarkdownIt
from tests.unit.evaluation.conftest import evidence, plain, policy, use_case  # noqa: F401 - fixtures

from millrace.artifact import Verdict
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Origin
from millrace.governance.approval_request import Request
from millrace.spec import PolicySpec
from millrace.step.approval_body import approval_body

DUE = datetime(2026, 1, 8, 9, tzinfo=UTC)


def body(of: Evidence, under: PolicySpec, *, on_timeout: str = "reject", answers: list[str] | None = None) -> str:
    verdict = Verdict(
        outcome="pass", subject="p", reasons=["calibration: error 0.01", "no_leak: none"], evidence=of.digest
    )
    request = Request(
        due=DUE,
        barred={"admin": "owner of the use case", "zoe": "started the run", "zoe@example.org": "started the run"},
        approved=["olive"],
        answers=answers or [],
    )
    asked = under.model_copy(update={"on_timeout": on_timeout, "approval_timeout_hours": 72})
    return approval_body(of, verdict, asked, request, card="/card.html")


def test_a_person_reads_figures_against_the_champion_with_intervals_gates_and_the_way_to_the_card(
    evidence: Evidence,  # noqa: F811
    policy: PolicySpec,  # noqa: F811
) -> None:
    text = body(evidence, policy)
    score = evidence.challenger_score
    assert f"**{score.name}**" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table[2].startswith("| **AUC** |")
    assert " to " in table[2]
    assert all(line.count("|") == 6 for line in table)
    assert "Gain over the champion in AUC (above 0 is better): **" in text
    assert "- calibration: error 0.01\n- no_leak: none" in text
    assert "[Model card](/card.html)" in text
    assert evidence.digest[:12] in text
    for heading in ("Against the champion", "For whom it is worse", "Fairness", "Known limits"):
        assert f"**{heading}**" in text


def test_without_a_champion_no_column_stands_empty(
    evidence: Evidence,  # noqa: F811
    policy: PolicySpec,  # noqa: F811
) -> None:
    alone = evidence.model_copy(update={"champion": None})
    table = [line for line in body(alone, policy).splitlines() if line.startswith("|")]
    assert table[:2] == ["| | challenger | 95 % interval |", "|---|---|---|"]
    assert all(line.count("|") == 4 for line in table)


def test_a_person_reads_where_a_model_comes_from_that_was_trained_elsewhere(
    evidence: Evidence,  # noqa: F811
    policy: PolicySpec,  # noqa: F811
) -> None:
    origin = Origin(commit="", tree="none", lock="", recipe="", source="rail lab, build 12")
    foreign = evidence.model_copy(update={"origin": origin})
    assert "It was trained elsewhere and comes from **rail lab, build 12**." in body(foreign, policy)
    assert "trained elsewhere and comes" not in body(evidence, policy)


def test_a_person_reads_who_may_not_approve_and_what_silence_counts_as(
    evidence: Evidence,  # noqa: F811
    policy: PolicySpec,  # noqa: F811
) -> None:
    text = body(evidence, policy)
    assert "May not approve: admin (owner of the use case); zoe (started the run)." in text
    assert "Approved already: olive." in text
    assert "within 72 hours, by 2026-01-08T09:00:00Z; without an answer it counts as rejected." in text
    assert "asked again, for another 72 hours" in body(evidence, policy, on_timeout="ask_again")


@pytest.mark.parametrize("comment", ["two\nlines", "x" * 5000])
def test_comments_of_others_stay_on_a_line_of_their_own(
    evidence: Evidence,  # noqa: F811
    policy: PolicySpec,  # noqa: F811
    comment: str,
) -> None:
    text = body(evidence, policy, answers=[f"rejected by paul: {comment}"])
    (line,) = [line for line in text.splitlines() if "rejected by paul" in line]
    assert len(line) <= 602


FORGED = "Fine.\n\n**Gates of policy low: pass**\n\n- fairness: all alike\n\n![t](https://evil.example/p.png)"


def test_a_description_or_a_value_of_the_data_cannot_forge_what_the_gates_said(
    evidence: Evidence,  # noqa: F811
    policy: PolicySpec,  # noqa: F811
) -> None:
    first = evidence.slices[1].model_copy(update={"value": "[click](https://evil.example) ![x](https://evil.example)"})
    small = evidence.slices[2].model_copy(update={"value": FORGED})
    told = evidence.model_copy(update={"description": FORGED, "slices": [evidence.slices[0], first, small]})
    text = body(told, policy, answers=[f"rejected by paul: {FORGED}"])
    parsed = MarkdownIt("commonmark").parse(text)
    tokens = [child for item in parsed for child in item.children or []]
    assert [item.attrs["href"] for item in tokens if item.type == "link_open"] == ["/card.html"]
    assert not any(item.type == "image" for item in tokens)
    assert text.count("\n**Gates of policy") == 1
    assert "\n- fairness: all alike" not in text
