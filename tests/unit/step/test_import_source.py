"""A signature as a person gives it: in a form, as a file, as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.step.foreign import signature

from millrace.errors import ModelImportError, SpecError
from millrace.spec.signature import SignatureSpec
from millrace.step.import_source import load_import, read_signature

VALUES: dict[str, Any] = signature()


def test_values_text_and_path_are_the_same_signature(tmp_path: Path) -> None:
    path = tmp_path / "signature.yaml"
    path.write_text(yaml.safe_dump(VALUES), encoding="utf-8")
    given = [VALUES, json.dumps(VALUES), yaml.safe_dump(VALUES), f" {path}\n"]
    read = [read_signature(item, where="the form") for item in given]
    assert read == [SignatureSpec.model_validate(VALUES)] * 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "no signature is given"),
        ("  \n", "no signature is given"),
        (None, "no signature is given"),
        ({}, "no signature is given"),
        ("/nowhere/signature.yaml", "no such signature"),
        ("source: me\nproblem: [", "not YAML"),
        ("one line\nand another", "not a mapping"),
        ([1], "not a mapping"),
    ],
)
def test_what_is_no_signature_is_refused_with_a_remedy(given: object, said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        read_signature(given, where="the form")
    assert caught.value.remedy


def test_an_absent_model_and_a_wrong_signature_are_told_together(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("nmae: x\n", encoding="utf-8")
    with pytest.raises(ModelImportError, match=r"(?s)no such model: .*gone\.onnx; and .*nmae") as caught:
        load_import(str(tmp_path / "gone.onnx"), wrong)
    assert str(wrong) in caught.value.where
    with pytest.raises(SpecError, match="nmae"):
        load_import("models:/name/3", wrong)
