"""The network that torch trains, and its state as bytes between two epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from millrace.package import Encoder
from millrace.training.params import TorchParams
from millrace.training.run import Checkpoint


class Network(nn.Module):
    """Embeddings beside dense inputs, dense layers with ReLU, one output or one a class."""

    def __init__(self, encoder: Encoder, params: TorchParams, outputs: int) -> None:
        super().__init__()
        cardinalities = [encoder.columns[i].cardinality for i in encoder.categories]
        widths = [min(params.embedding, (count + 1) // 2) for count in cardinalities]
        self.embeddings = nn.ModuleList(
            nn.Embedding(count, width) for count, width in zip(cardinalities, widths, strict=True)
        )
        sizes = [encoder.dense_width + sum(widths), *params.hidden, outputs]
        self.layers = nn.ModuleList(nn.Linear(sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1))
        self.dropout = nn.Dropout(params.dropout)

    def begin(self, prior: torch.Tensor, present: list[torch.Tensor]) -> None:
        """Begin at the prior; codes that no row has (often `unseen` and `missing`) mean nothing, so they are 0.

        Args:
            prior: bias of the last layer.
            present: for each category, how many rows have each of its codes.
        """
        with torch.no_grad():
            self.layers[-1].bias.copy_(prior)
            for table, counts in zip(self.embeddings, present, strict=True):
                table.weight.mul_((counts > 0).to(table.weight.dtype)[:, None])

    def forward(self, dense: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Raw output of each row, (rows, outputs): log-odds, or the standardised value."""
        hidden = torch.cat([dense, *(table(codes[:, i]) for i, table in enumerate(self.embeddings))], dim=1)
        for layer in self.layers[:-1]:
            hidden = self.dropout(torch.relu(layer(hidden)))
        output: torch.Tensor = self.layers[-1](hidden)
        return output

    def tensors(self, offset: float, scale: float) -> dict[str, NDArray[np.float32]]:
        """A copy of all of it as the package's reader names it."""
        named = {f"embedding.{i}": table.weight for i, table in enumerate(self.embeddings)}
        for i, layer in enumerate(self.layers):
            named |= {f"layer.{i}.weight": layer.weight, f"layer.{i}.bias": layer.bias}
        arrays = {name: np.array(tensor.detach().cpu().numpy()) for name, tensor in named.items()}
        return {**arrays, "target": np.array([offset, scale], np.float32)}


@dataclass(slots=True)
class Progress:
    """How far a fit is.

    Attributes:
        done: epochs behind it.
        train_loss: of the last of them.
        best: least loss on the rows kept back.
        best_epoch: when that was, counted from 0.
        kept: the network as it was then.
    """

    done: int = 0
    train_loss: float = math.nan
    best: float = math.inf
    best_epoch: int = 0
    kept: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def exhausted(self, patience: int) -> bool:
        """Whether the epochs since the best are as many as patience allows."""
        return bool(patience) and self.done - 1 - self.best_epoch >= patience


def pack(progress: Progress, network: Network, optimizer: torch.optim.Optimizer) -> Checkpoint:
    """All that a fit needs to go on; what is random in an epoch comes from its number alone."""
    figures = [progress.train_loss, progress.best, float(progress.best_epoch)]
    state = {"progress": torch.tensor(figures, dtype=torch.float64)}
    state |= {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    state |= {f"kept.{name}": torch.from_numpy(array) for name, array in progress.kept.items()}
    for number, values in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{number}.{name}": tensor for name, tensor in values.items()}
    return Checkpoint(done=progress.done, content=save_tensors({name: item.cpu() for name, item in state.items()}))


def unpack(checkpoint: Checkpoint, network: Network, optimizer: torch.optim.Optimizer) -> Progress:
    """Put network and optimizer where they were at a checkpoint."""
    state = load_tensors(checkpoint.content)
    network.load_state_dict(_below(state, "network."))
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in _below(state, "optimizer.").items():
        number, key = name.split(".", 1)
        moments.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    train_loss, best, best_epoch = state["progress"].tolist()
    kept = {name: tensor.numpy() for name, tensor in _below(state, "kept.").items()}
    return Progress(done=checkpoint.done, train_loss=train_loss, best=best, best_epoch=int(best_epoch), kept=kept)


def _below(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
