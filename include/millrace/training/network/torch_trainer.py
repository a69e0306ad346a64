"""A network over standardised numbers and embedded categories, trained by torch, the same bytes twice.

What is random in an epoch (the order of the rows, the units left out) comes from the seed and the number of the epoch
alone: a fit that goes on after a kill needs no state of a generator.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save as save_tensors
from torch import nn

from millrace.errors import TrainingError
from millrace.package import Library, ModelFile
from millrace.training.base import Fit, TrainingData, Watch
from millrace.training.network.torch_group import spread, total
from millrace.training.network.torch_network import Network, Progress, pack, unpack
from millrace.training.network.torch_rows import Batch, BlockedRows
from millrace.training.params import TorchParams
from millrace.training.run import FitRun

_LEAST = 1e-6
_EVALUATED = 16_384
_STEPS_A_QUESTION = 16


class TorchTrainer:
    """Trains with AdamW on shuffled batches, the rate falling along a cosine."""

    scaled = True
    library = Library(name="torch", version=torch.__version__)
    model = ModelFile(name="model.safetensors", format="network-safetensors")

    def __init__(self, params: TorchParams) -> None:
        self.params = params

    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        """Train the epochs asked for, or until the last partition gains no more.

        In an initialised process group of `torch.distributed` it trains one model together with the others, on the
        rows each of them has; the recent rows are the same for all.

        Raises:
            TrainingError: a graphics card is asked for and there is none, or the loss is no number any more.
        """
        device = _device(self.params.device)
        with _deterministic(self.params.threads, device):
            return _Training(data, self.params, seed, device).run(run)


class _Training:
    """One fit: rows, network and optimizer."""

    def __init__(self, data: TrainingData, params: TorchParams, seed: int, device: torch.device) -> None:
        self.params, self.seed, self.device, self.problem = params, seed, device, data.problem
        everything = np.arange(len(data.target))
        kept = everything[~data.recent] if params.early_stopping else everything
        weight = np.ones(len(kept), np.float32) if data.weight is None else data.weight[kept]
        sums = total(torch.tensor([float(weight.sum(dtype=np.float64)), float(len(kept))], dtype=torch.float64))
        self.offset, self.scale, prior = _prior(data, kept, weight)
        target = ((data.target - np.float32(self.offset)) / np.float32(self.scale)).astype(np.float32, copy=False)
        unit = float(sums[0] / sums[1])
        self.rows = BlockedRows(data, kept, target, unit)
        self.recent = BlockedRows(data, everything[data.recent], target, unit)
        self.watch = None if data.watch is None else self._watched(data, data.watch)
        torch.manual_seed(seed)
        network = Network(data.encoder, params, len(prior))
        network.begin(prior, [total(counts) for counts in self.rows.count_codes()])
        self.network = network.to(device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay, fused=True
        )

    def _watched(self, data: TrainingData, watch: Watch) -> BlockedRows:
        target = ((watch.target - np.float32(self.offset)) / np.float32(self.scale)).astype(np.float32, copy=False)
        later = dataclasses.replace(data, matrix=watch.matrix, target=watch.target, weight=None, block_rows=0)
        return BlockedRows(later, np.arange(len(target)), target, 1.0)

    def run(self, run: FitRun) -> Fit:
        """All epochs that are left."""
        checkpoint, patience, every = run.restore(), self.params.early_stopping, self.params.checkpoint_every
        progress = Progress() if checkpoint is None else unpack(checkpoint, self.network, self.optimizer)
        model = spread(self.network)
        while progress.done < self.params.epochs and not progress.exhausted(patience):
            metrics = self._step(progress, model, run)
            run.report(progress.done - 1, metrics)
            if every and progress.done % every == 0:
                run.save(pack(progress, self.network, self.optimizer))
        metrics = {"train_loss": progress.train_loss} | ({"recent_loss": progress.best} if patience else {})
        return Fit(
            content=save_tensors(progress.kept or self.network.tensors(self.offset, self.scale)),
            facts={"epochs": progress.best_epoch + 1 if patience else progress.done},
            metrics=metrics,
        )

    def _step(self, progress: Progress, model: nn.Module, run: FitRun) -> dict[str, float]:
        """One epoch, then what it is worth on the rows kept back."""
        progress.train_loss = self._epoch(progress.done, model, run)
        _check_loss(progress.train_loss, progress.done)
        metrics = {"train_loss": progress.train_loss}
        if self.params.early_stopping:
            loss = self._loss_on(self.recent)
            metrics["recent_loss"] = loss
            if loss < progress.best:
                progress.best, progress.best_epoch = loss, progress.done
                progress.kept = self.network.tensors(self.offset, self.scale)
        if self.watch is not None:
            metrics["watch_loss"] = self._loss_on(self.watch)
        progress.done += 1
        return metrics

    def _epoch(self, epoch: int, model: nn.Module, run: FitRun) -> float:
        model.train()
        params, size = self.params, self.params.batch_size
        seed = int(np.random.SeedSequence([self.seed % 2**63, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        steps, sums = self.rows.steps(size), torch.zeros(2, dtype=torch.float64, device=self.device)
        for step, batch in enumerate(self.rows.batches(size, generator)):
            if step % _STEPS_A_QUESTION == 0:
                run.report(epoch - 1, {})  # nothing to tell within an epoch, but it may be time to stop
            share = (epoch + step / steps) / params.epochs
            self.optimizer.param_groups[0]["lr"] = params.learning_rate * (1 + np.cos(np.pi * share)) / 2
            self.optimizer.zero_grad(set_to_none=True)
            losses = self._losses(model, batch)
            losses.mean().backward()
            self.optimizer.step()
            sums[0] += losses.detach().sum(dtype=torch.float64)
            sums[1] += len(batch)
        loss, count = total(sums).tolist()
        return float(loss / count)

    def _losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Weighted loss of each row."""
        batch = batch.to(self.device)
        output = model(batch.dense, batch.codes)
        if self.problem == "multiclass":
            losses = nn.functional.cross_entropy(output, batch.target, reduction="none")
        elif self.problem == "binary":
            losses = nn.functional.binary_cross_entropy_with_logits(output[:, 0], batch.target, reduction="none")
        else:
            losses = nn.functional.mse_loss(output[:, 0], batch.target, reduction="none")
        return losses * batch.weight

    def _loss_on(self, rows: BlockedRows) -> float:
        """Weighted mean loss on rows that are not trained on."""
        self.network.eval()
        losses = weights = 0.0
        with torch.no_grad():
            for batch in rows.in_order(_EVALUATED):
                losses += float(self._losses(self.network, batch).sum(dtype=torch.float64))
                weights += float(batch.weight.sum(dtype=torch.float64))
        return losses / weights


def _prior(
    data: TrainingData, kept: NDArray[np.int64], weight: NDArray[np.float32]
) -> tuple[float, float, torch.Tensor]:
    """Offset and scale of the target, and the bias that predicts the prior, over the rows of all workers."""
    target, weight64 = data.target[kept].astype(np.float64), weight.astype(np.float64)
    if data.problem == "regression":
        moments = [weight64.sum(), weight64 @ target, 0.0]
        sums = total(torch.tensor(moments, dtype=torch.float64))
        mean = float(sums[1] / sums[0])
        spread_out = total(torch.tensor([weight64 @ (target - mean) ** 2], dtype=torch.float64))
        return mean, float((spread_out[0] / sums[0]).sqrt()) or 1.0, torch.zeros(1)
    counts = np.bincount(target.astype(np.int64), weights=weight64, minlength=max(data.classes, 2))
    rates = total(torch.from_numpy(counts))
    rates = (rates / rates.sum()).clamp(_LEAST, 1 - _LEAST)
    bias = rates.log() if data.problem == "multiclass" else (rates[1:] / (1 - rates[1:])).log()
    return 0.0, 1.0, bias.to(torch.float32)


def _check_loss(loss: float, epoch: int) -> None:
    if not np.isfinite(loss):
        raise TrainingError(
            f"the loss of epoch {epoch + 1} is {loss}: the network diverged",
            where="trainer torch",
            remedy="lower learning_rate, or look for absurd labels or weights",
        )


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "the candidate asks for a graphics card, and torch finds none here",
            where="resources.gpu",
            remedy="run its task on a machine with a CUDA build of torch (resources.queue), or set resources.gpu: 0",
        )
    return torch.device(name)


@contextlib.contextmanager
def _deterministic(threads: int, device: torch.device) -> Iterator[None]:
    """Torch's global state for one fit, given back afterwards."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    if device.type == "cuda":  # cuBLAS repeats its sums only with a workspace of fixed size
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(True)
            yield
        finally:
            torch.use_deterministic_algorithms(strict)
            torch.set_num_threads(before)
