"""The candidates: encode, train, predict, explain, in the libraries' own words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import torch
import xgboost
from numpy.typing import NDArray
from safetensors.torch import save as save_tensors
from torch import nn

from tests.benchmarks.bare.spec import Json

THREADS = 2
Floats = NDArray[np.float64]


@dataclass
class Encoder:
    """Categories to codes (unseen and missing ones last), numbers as they are; learned on training rows."""

    names: list[str]
    vocabularies: dict[str, list[str]]

    @classmethod
    def learn(cls, rows: pa.Table, names: list[str], categories: list[str]) -> Encoder:
        return cls(names, {name: sorted(rows[name].drop_null().unique().to_pylist()) for name in categories})

    def encode(self, rows: pa.Table) -> NDArray[np.float32]:
        matrix = np.empty((rows.num_rows, len(self.names)), np.float32)
        for position, name in enumerate(self.names):
            column = rows[name].combine_chunks()
            if name not in self.vocabularies:
                matrix[:, position] = column.to_numpy(zero_copy_only=False)
                continue
            words = self.vocabularies[name]
            coded = column.dictionary_encode()
            places = {word: code for code, word in enumerate(words)}
            codes = [places.get(word, len(words)) for word in coded.dictionary.to_pylist()]
            table = np.array([*codes, len(words) + 1], np.float32)
            matrix[:, position] = table[coded.indices.fill_null(len(codes)).to_numpy(zero_copy_only=False)]
        return matrix

    @property
    def coded(self) -> list[int]:
        """Places of the categories."""
        return [self.names.index(name) for name in self.vocabularies]


@dataclass
class Model:
    """A trained candidate: what it is called, its bytes, and how it predicts encoded rows."""

    candidate: str
    trainer: str
    encoder: Encoder
    file: str
    content: bytes
    predict: Callable[[NDArray[np.float32]], Floats]
    contribute: Callable[[NDArray[np.float32]], Floats] | None = None


def train(
    candidate: str, spec: Json, encoder: Encoder, matrix: NDArray[np.float32], target: NDArray[np.float32], seed: int
) -> Model:
    """Train one candidate by the parameters of the YAML."""
    known = {"xgboost": _xgboost, "lightgbm": _lightgbm, "torch": _torch, "baseline": _baseline}
    return known[spec["trainer"]](candidate, dict(spec.get("params", {})), encoder, matrix, target, seed)


def _xgboost(name: str, params: Json, encoder: Encoder, matrix: Any, target: Any, seed: int) -> Model:
    kinds = ["c" if column in encoder.vocabularies else "q" for column in encoder.names]
    data = xgboost.QuantileDMatrix(
        matrix, target, feature_names=encoder.names, feature_types=kinds, enable_categorical=True, nthread=THREADS
    )
    rounds = params.pop("rounds")
    fixed = {"objective": "binary:logistic", "tree_method": "hist", "seed": seed, "nthread": THREADS}
    booster = xgboost.train({**params, **fixed}, data, rounds)

    def contribute(rows: NDArray[np.float32]) -> Floats:
        wrapped = xgboost.DMatrix(rows, feature_names=encoder.names, feature_types=kinds, enable_categorical=True)
        return booster.predict(wrapped, pred_contribs=True)[:, :-1].astype(np.float64)

    def predict(rows: NDArray[np.float32]) -> Floats:
        return booster.inplace_predict(rows, validate_features=False).astype(np.float64)

    return Model(name, "xgboost", encoder, "model.ubj", bytes(booster.save_raw("ubj")), predict, contribute)


def _lightgbm(name: str, params: Json, encoder: Encoder, matrix: Any, target: Any, seed: int) -> Model:
    rounds = params.pop("rounds")
    fixed = {"objective": "binary", "seed": seed, "deterministic": True, "force_row_wise": True}
    settings = {**params, **fixed, "num_threads": THREADS, "verbose": -1}
    data = lightgbm.Dataset(
        matrix, target, feature_name=encoder.names, categorical_feature=encoder.coded, params=settings
    )
    booster = lightgbm.train(settings, data, rounds)
    return Model(
        name,
        "lightgbm",
        encoder,
        "model.txt",
        booster.model_to_string().encode(),
        lambda rows: booster.predict(rows, num_threads=THREADS),
        lambda rows: booster.predict(rows, pred_contrib=True)[:, :-1],
    )


class _Network(nn.Module):
    def __init__(self, dense: int, sizes: list[int], width: int, hidden: list[int]) -> None:
        super().__init__()
        widths = [min(width, (size + 1) // 2) for size in sizes]
        self.tables = nn.ModuleList(nn.Embedding(size, out) for size, out in zip(sizes, widths, strict=True))
        shape = [dense + sum(widths), *hidden]
        blocks = [layer for i in range(len(hidden)) for layer in (nn.Linear(shape[i], shape[i + 1]), nn.ReLU())]
        self.layers = nn.Sequential(*blocks, nn.Linear(shape[-1], 1))

    def forward(self, dense: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        coded = [table(codes[:, i]) for i, table in enumerate(self.tables)]
        return self.layers(torch.cat([dense, *coded], dim=1))[:, 0]


def _torch(name: str, params: Json, encoder: Encoder, matrix: Any, target: Any, seed: int) -> Model:
    torch.set_num_threads(THREADS)
    torch.manual_seed(seed)
    numbers = [i for i in range(len(encoder.names)) if i not in encoder.coded]
    centre = np.nanmean(matrix[:, numbers], axis=0, dtype=np.float64).astype(np.float32)
    scale = np.nanstd(matrix[:, numbers], axis=0, dtype=np.float64).astype(np.float32)
    scale[scale == 0] = 1.0
    gaps = np.flatnonzero(np.isnan(matrix[:, numbers]).any(axis=0))

    def tensors(rows: NDArray[np.float32]) -> tuple[torch.Tensor, torch.Tensor]:
        values = rows[:, numbers]
        missing = np.isnan(values)
        dense = np.clip((values - centre) / scale, -10, 10)
        dense[missing] = 0.0
        dense = np.concatenate([dense, missing[:, gaps].astype(np.float32)], axis=1)
        return torch.from_numpy(dense), torch.from_numpy(rows[:, encoder.coded].astype(np.int64))

    dense, codes = tensors(matrix)
    sizes = [len(words) + 2 for words in encoder.vocabularies.values()]
    network = _Network(dense.shape[1], sizes, params["embedding"], params["hidden"])
    rate = float(target.mean())
    with torch.no_grad():
        network.layers[-1].bias.fill_(math.log(rate / (1 - rate)))  # type: ignore[operator,union-attr]
        for place, size in enumerate(sizes):  # codes that no row has mean nothing
            network.tables[place].weight[torch.bincount(codes[:, place], minlength=size) == 0] = 0.0  # type: ignore[index]
    labels, size = torch.from_numpy(target), params["batch_size"]
    steps = params["epochs"] * math.ceil(len(labels) / size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=params["learning_rate"], weight_decay=1e-4, fused=True)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    criterion = nn.BCEWithLogitsLoss()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(params["epochs"]):
        for batch in torch.randperm(len(labels), generator=generator).split(size):
            optimizer.zero_grad()
            criterion(network(dense[batch], codes[batch]), labels[batch]).backward()
            optimizer.step()
            falling.step()

    def predict(rows: NDArray[np.float32]) -> Floats:
        with torch.no_grad():
            return torch.sigmoid(network(*tensors(rows))).numpy().astype(np.float64)

    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    return Model(name, "torch", encoder, "model.safetensors", save_tensors(state), predict)


def _baseline(name: str, params: Json, encoder: Encoder, matrix: Any, target: Any, seed: int) -> Model:
    rate = float(target.mean(dtype=np.float64))
    return Model(name, "baseline", encoder, "model.json", str(rate).encode(), lambda rows: np.full(len(rows), rate))
