"""A network over standardised numbers and embedded categories, trained by torch on the CPU, the same bytes twice."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save as save_tensors
from torch import nn

from millrace.package import Encoder, Library, ModelFile
from millrace.training.base import Fit, TrainingData
from millrace.training.params import TorchParams
from millrace.training.run import FitRun


class _Network(nn.Module):
    """Embeddings beside dense inputs, dense layers with ReLU, one output."""

    def __init__(self, encoder: Encoder, params: TorchParams) -> None:
        super().__init__()
        cardinalities = [encoder.columns[i].cardinality for i in encoder.categories]
        widths = [min(params.embedding, (count + 1) // 2) for count in cardinalities]
        self.embeddings = nn.ModuleList(
            nn.Embedding(count, width) for count, width in zip(cardinalities, widths, strict=True)
        )
        sizes = [encoder.dense_width + sum(widths), *params.hidden, 1]
        self.layers = nn.ModuleList(nn.Linear(sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1))
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, dense: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Output of each row before the sigmoid, standardised for a regression."""
        hidden = torch.cat([dense, *(table(codes[:, i]) for i, table in enumerate(self.embeddings))], dim=1)
        for layer in self.layers[:-1]:
            hidden = self.dropout(torch.relu(layer(hidden)))
        return self.layers[-1](hidden)[:, 0]

    def tensors(self, offset: float, scale: float) -> dict[str, NDArray[np.float32]]:
        """All of it as the package's reader names it."""
        named = {f"embedding.{i}": table.weight for i, table in enumerate(self.embeddings)}
        for i, layer in enumerate(self.layers):
            named |= {f"layer.{i}.weight": layer.weight, f"layer.{i}.bias": layer.bias}
        arrays = {name: np.ascontiguousarray(tensor.detach().numpy()) for name, tensor in named.items()}
        return {**arrays, "target": np.array([offset, scale], np.float32)}


class TorchTrainer:
    """Trains with AdamW on shuffled batches, the rate falling along a cosine."""

    scaled = True
    library = Library(name="torch", version=torch.__version__)
    model = ModelFile(name="model.safetensors", format="network-safetensors")

    def __init__(self, params: TorchParams) -> None:
        self.params = params

    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        """Train the epochs asked for, or until the last partition gains no more."""
        with _deterministic(self.params.threads, seed):
            return _Training(data, self.params, seed).run()


class _Training:
    """One run: tensors, network and optimizer."""

    def __init__(self, data: TrainingData, params: TorchParams, seed: int) -> None:
        self.params, self.binary = params, data.problem == "binary"
        target = data.target.astype(np.float64)
        self.offset, self.scale = (0.0, 1.0) if self.binary else (float(target.mean()), float(target.std()) or 1.0)
        self.dense = torch.from_numpy(data.encoder.standardise(data.matrix))
        self.codes = torch.from_numpy(data.matrix[:, data.encoder.categories].astype(np.int64))
        self.target = torch.from_numpy(((target - self.offset) / self.scale).astype(np.float32))
        patience = params.early_stopping
        everything = np.ones(len(target), bool)
        self.kept = torch.from_numpy(np.flatnonzero(~data.recent if patience else everything))
        self.recent = torch.from_numpy(np.flatnonzero(data.recent))
        self.generator = torch.Generator().manual_seed(seed)
        self.network = _Network(data.encoder, params)
        self._start(target)
        self.loss = nn.BCEWithLogitsLoss() if self.binary else nn.MSELoss()
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay, fused=True
        )

    def _start(self, target: NDArray[np.float64]) -> None:
        """Begin at the prior; codes that no row has (often `unseen` and `missing`) mean nothing, so they are 0."""
        with torch.no_grad():
            rate = float(np.clip(target.mean(), 1e-6, 1 - 1e-6)) if self.binary else 0.5
            self.network.layers[-1].bias.fill_(math.log(rate / (1 - rate)))
            for i, table in enumerate(self.network.embeddings):
                present = torch.zeros(table.num_embeddings, 1)
                present[self.codes[self.kept, i]] = 1.0
                table.weight.mul_(present)

    def run(self) -> Fit:
        """All epochs."""
        batches = math.ceil(len(self.kept) / self.params.batch_size)
        metrics: dict[str, float] = {}
        best, best_epoch, kept = math.inf, 0, None
        for epoch in range(self.params.epochs):
            metrics["train_loss"] = self._epoch(epoch * batches, self.params.epochs * batches)
            if not self.params.early_stopping:
                continue
            loss = self._recent_loss()
            if loss < best:
                best, best_epoch, kept = loss, epoch, self.network.tensors(self.offset, self.scale)
                kept = {name: array.copy() for name, array in kept.items()}
                metrics["recent_loss"] = loss
            elif epoch - best_epoch >= self.params.early_stopping:
                break
        tensors = kept or self.network.tensors(self.offset, self.scale)
        epochs = best_epoch + 1 if self.params.early_stopping else self.params.epochs
        return Fit(content=save_tensors(tensors), facts={"epochs": epochs}, metrics=metrics)

    def _epoch(self, done: int, steps: int) -> float:
        self.network.train()
        order = self.kept[torch.randperm(len(self.kept), generator=self.generator)]
        total = torch.zeros(())
        for step, rows in enumerate(order.split(self.params.batch_size)):
            rate = self.params.learning_rate * (1 + math.cos(math.pi * (done + step) / steps)) / 2
            self.optimizer.param_groups[0]["lr"] = rate
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(self.network(self.dense[rows], self.codes[rows]), self.target[rows])
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(rows)
        return float(total) / len(order)

    def _recent_loss(self) -> float:
        self.network.eval()
        with torch.no_grad():
            output = self.network(self.dense[self.recent], self.codes[self.recent])
            return float(self.loss(output, self.target[self.recent]))


@contextlib.contextmanager
def _deterministic(threads: int, seed: int) -> Iterator[None]:
    """Torch's global state for one run, given back afterwards."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(True)
            torch.manual_seed(seed)
            yield
        finally:
            torch.use_deterministic_algorithms(strict)
            torch.set_num_threads(before)
