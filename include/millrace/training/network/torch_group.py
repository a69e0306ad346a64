"""What a network's fit shares with the other workers that train it; alone, nothing."""

from __future__ import annotations

import torch
from torch import distributed, nn


def total(part: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all workers, the same on each; alone, the tensor itself."""
    if not _together():
        return part
    # Graphics cards speak to each other only of what lies on them.
    summed = part.cuda() if distributed.get_backend() == "nccl" else part.clone()
    distributed.all_reduce(summed, op=distributed.ReduceOp.SUM)
    return summed.to(part.device)


def spread(network: nn.Module) -> nn.Module:
    """A network whose gradients are averaged over all workers after each backward pass; alone, the network itself.

    The parameters are those of the first worker. What is trained and sealed stays the network that came in.
    """
    if not _together():
        return network
    return nn.parallel.DistributedDataParallel(network)


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
