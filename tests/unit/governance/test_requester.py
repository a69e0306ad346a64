from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from millrace.errors import SpecError
from millrace.governance.requester import SYSTEM, Requester, barred, objection, requester_of
from millrace.settings import Settings
from millrace.spec import UseCaseSpec, load_use_case


@pytest.fixture
def use_case(settings: Settings) -> UseCaseSpec:
    return load_use_case(settings.dags, "flight_delay")


def commit(folder: Path, name: str, address: str) -> None:
    git = ["git", "-C", str(folder), "-c", f"user.name={name}", "-c", f"user.email={address}"]
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "change"], check=True)


def test_who_started_a_run_is_who_asks(use_case: UseCaseSpec, settings: Settings) -> None:
    assert requester_of(use_case, "paul", settings=settings) == Requester(name="paul")


@pytest.mark.parametrize("started_by", ["", SYSTEM])
def test_an_automatic_run_counts_as_started_by_the_last_committer_of_the_spec(
    use_case: UseCaseSpec, settings: Settings, started_by: str
) -> None:
    commit(settings.dags, "Paul", "paul@example.org")
    path = settings.dags / "use_cases" / "flight_delay.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    commit(settings.dags, "Olive Oak", "12345+olive@users.noreply.example.org")
    (settings.dags / "other.txt").write_text("of somebody else", encoding="utf-8")
    commit(settings.dags, "Zoe", "zoe@example.org")
    asks = requester_of(use_case, started_by, settings=settings)
    assert (asks.name, asks.automatic) == ("Olive Oak", True)
    assert "last committer" in objection(use_case, asks, "olive")
    assert "last committer" in objection(use_case, asks, "OLIVE")
    assert not objection(use_case, asks, "paul")
    assert not objection(use_case, asks, "zoe")


def test_a_mailmap_says_which_user_a_committer_is(use_case: UseCaseSpec, settings: Settings) -> None:
    (settings.dags / ".mailmap").write_text("olive <olive@example.org> <private@home.example>\n", encoding="utf-8")
    commit(settings.dags, "O.", "private@home.example")
    assert requester_of(use_case, "", settings=settings).name == "olive"


def test_without_git_an_automatic_run_is_the_systems_own(use_case: UseCaseSpec, settings: Settings) -> None:
    asks = requester_of(use_case, "", settings=settings)
    assert (asks.name, asks.automatic, asks.aliases) == (SYSTEM, True, [])
    assert barred(use_case, asks) == {"admin": "owner of the use case", SYSTEM: "not a person"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("admin", "owner of the use case"),
        ("Admin", "owner of the use case"),
        ("paul", "started the run"),
        ("system", "not a person"),
        (" ", "without a name"),
        ("Olive", "has approved already"),
    ],
)
def test_whose_approval_does_not_count_is_told_why(use_case: UseCaseSpec, name: str, said: str) -> None:
    assert said in objection(use_case, Requester(name="paul"), name, ["olive"])
    assert not objection(use_case, Requester(name="paul"), "zoe", ["olive"])


@pytest.mark.parametrize(
    "name",
    ["jose\u0301", "JOSÉ", " josé ", "josé\u00a0", "\uff4aos\u00e9"],
    ids=["apart", "capitals", "blanks", "hard blank", "wide"],
)
def test_an_owner_in_another_spelling_is_the_owner(use_case: UseCaseSpec, name: str) -> None:
    owned = use_case.model_copy(update={"owners": ["jos\u00e9"]})
    assert "owner of the use case" in objection(owned, Requester(name="zoe"), name)
    written_so = use_case.model_copy(update={"owners": [name]})
    assert "owner of the use case" in objection(written_so, Requester(name="zoe"), "jos\u00e9")


@pytest.mark.parametrize("name", ["ann\u200b", "a\nnn", "\u202eann", "ann\x00"])
def test_a_name_with_characters_nobody_sees_does_not_count(use_case: UseCaseSpec, name: str) -> None:
    assert "invisible characters" in objection(use_case, Requester(name="zoe"), name)


def test_owners_are_declared_as_people_write_them(settings: Settings) -> None:
    path = settings.dags / "use_cases" / "flight_delay.yaml"
    text = path.read_text(encoding="utf-8")

    def declared(owner: str) -> list[str]:
        path.write_text(text.replace("owners: [admin]", f'owners: ["{owner}"]'), encoding="utf-8")
        return load_use_case(settings.dags, "flight_delay").owners

    assert declared(" olive  ") == ["olive"]
    for owner in ("", "  ", "ol\\u200bive", "ol\\nive"):
        with pytest.raises(SpecError, match="owners"):
            declared(owner)
