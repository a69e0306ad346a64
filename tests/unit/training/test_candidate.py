from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.training.synthetic import make_domain, make_job, make_use_case, training_rows

from millrace.errors import SpecError, TrainingError
from millrace.package import FeatureSpec
from millrace.spec import UseCaseSpec
from millrace.training import Trained, train_package

PARTITIONS = ["2020-01", "2020-02"]


def train(use_case: UseCaseSpec, candidate: str, store: Path, rows: pa.Table) -> Trained:
    return train_package(make_job(use_case, candidate, holdout="2020-03", table="t"), rows, store=store)


def test_fewer_partitions_than_the_use_case_demands_are_refused(tmp_path: Path) -> None:
    use_case = make_use_case()
    with pytest.raises(TrainingError, match=r"1 partitions .* holdout 2020-03, needed are 2") as raised:
        train(use_case, "baseline", tmp_path, training_rows(use_case, ["2020-02"]))
    assert "min_training_partitions" in raised.value.remedy


def test_an_unknown_candidate_or_parameter_is_refused_before_any_work(tmp_path: Path) -> None:
    use_case = make_use_case(mine={"trainer": "xgboost", "params": {"roundz": 3}})
    rows = training_rows(use_case, PARTITIONS, 50)
    with pytest.raises(SpecError, match="no candidate 'yours'"):
        train(use_case, "yours", tmp_path, rows)
    with pytest.raises(SpecError, match="unknown key 'roundz'") as raised:
        train(use_case, "mine", tmp_path, rows)
    assert "did you mean 'rounds'" in raised.value.remedy
    assert "candidates.mine" in raised.value.where


def test_a_feature_that_the_domain_has_not_is_named_with_the_nearest(tmp_path: Path) -> None:
    use_case = make_use_case()
    service = use_case.features.model_copy(update={"views": {"town_weather": ["warmht"]}})
    with pytest.raises(SpecError, match="'warmht'") as raised:
        FeatureSpec.of(use_case.model_copy(update={"features": service}), make_domain())
    assert "'warmth'" in raised.value.remedy


def test_a_killed_training_leaves_nothing_and_old_remains_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_case = make_use_case()
    rows = training_rows(use_case, PARTITIONS, 50)

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed)
        train(use_case, "baseline", tmp_path, rows)
    assert not list(tmp_path.iterdir())
    remains = tmp_path / ".sealing-old"
    remains.mkdir()
    os.utime(remains, (0, 0))
    package = train(use_case, "baseline", tmp_path, rows).package
    assert [path.name for path in tmp_path.iterdir()] == [package.digest]


def test_trainers_give_torch_its_global_state_back(tmp_path: Path) -> None:
    import torch

    use_case = make_use_case()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    train(use_case, "torch", tmp_path, training_rows(use_case, PARTITIONS, 50))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_network_that_is_read_is_the_one_that_was_trained(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load

    use_case = make_use_case("regression")
    package = train(use_case, "torch", tmp_path, training_rows(use_case, PARTITIONS, 200)).package
    tensors = load(package.content["model.safetensors"])
    matrix = package.encoder.encode(package.golden.columns)
    codes = torch.from_numpy(matrix[:, package.encoder.categories].astype(np.int64))
    hidden = torch.cat(
        [
            torch.from_numpy(package.encoder.standardise(matrix)),
            *(tensors[f"embedding.{i}"][codes[:, i]] for i in range(codes.shape[1])),
        ],
        dim=1,
    )
    for i in range(3):
        hidden = hidden @ tensors[f"layer.{i}.weight"].T + tensors[f"layer.{i}.bias"]
        hidden = torch.relu(hidden) if i < 2 else hidden
    offset, scale = tensors["target"]
    expected = (hidden[:, 0] * scale + offset).numpy()
    assert np.abs(expected - np.array(package.golden.predictions)).max() < 1e-3
    assert 50 < expected.mean() < 150
