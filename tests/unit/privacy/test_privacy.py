from __future__ import annotations

import base64
import dataclasses
import stat
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millrace.errors import SettingsError
from millrace.privacy import conceal, installation_key, protect, reveal, token_of
from millrace.settings import Settings
from millrace.spec import FileSourceSpec

KEY, OTHER = bytes(range(32)), bytes(32)
SPEC = FileSourceSpec.model_validate(
    {
        "uri": "x.csv",
        "columns": {"id": "int64", "mail": "string", "born": "int32", "amount": "float64"},
        "key": ["id"],
        "pii": {"mail": "tokenise", "born": "drop", "id": "tokenise"},
    }
)
ROWS = pa.record_batch(
    {
        "id": pa.array([7, 7, None], pa.int64()),
        "mail": ["ann@x.org", None, "ann@x.org"],
        "born": pa.array([1970, 1980, None], pa.int32()),
        "amount": [1.5, 2.5, None],
    }
)


def test_equal_values_give_equal_tokens_nulls_stay_and_dropped_columns_are_gone() -> None:
    found = protect(ROWS, SPEC, KEY)
    assert found.schema.names == ["id", "mail", "amount"] == list(SPEC.raw_columns)
    ids, mails = found["id"].to_pylist(), found["mail"].to_pylist()
    assert ids[0] == ids[1] == token_of("7", KEY)
    assert mails[0] == mails[2] == token_of("ann@x.org", KEY)
    assert (ids[2], mails[1]) == (None, None)
    assert found["amount"].to_pylist() == [1.5, 2.5, None]


def test_a_token_shows_nothing_of_the_value_and_needs_the_key() -> None:
    token = token_of("ann@x.org", KEY)
    assert "ann" not in token
    assert token != token_of("ann@x.org", OTHER)
    assert token == token_of("ann@x.org", KEY)
    assert len(token) == len(token_of("", KEY))


@given(st.text())
@example("aes-siv:")
def test_concealed_text_comes_back_with_the_key(text: str) -> None:
    hidden = conceal(text, KEY)
    assert reveal(hidden, KEY) == text
    assert conceal(text, KEY) == hidden
    sealed = base64.urlsafe_b64decode(hidden.partition(":")[2])
    assert len(text) < 4 or text.encode() not in sealed


def test_concealed_text_under_another_key_is_a_sentence() -> None:
    with pytest.raises(SettingsError, match="another key"):
        reveal(conceal("ann@x.org", KEY), OTHER)
    assert reveal("plain", OTHER) == "plain"


def test_the_key_is_made_once_whoever_asks_first_and_only_its_user_reads_it(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: installation_key(settings), range(16)))
    assert len(keys) == 1
    path = settings.var / "privacy.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in settings.var.iterdir() if "privacy" in item.name] == ["privacy.key"]


def test_a_key_from_the_environment_is_taken_and_a_wrong_one_refused(settings: Settings) -> None:
    assert installation_key(dataclasses.replace(settings, privacy_key=KEY.hex())) == KEY
    for wrong in ("abc", "zz" * 32, KEY.hex() + "00"):
        with pytest.raises(SettingsError, match="64 hexadecimal"):
            installation_key(dataclasses.replace(settings, privacy_key=wrong))
    assert KEY.hex() not in repr(dataclasses.replace(settings, privacy_key=KEY.hex()))
