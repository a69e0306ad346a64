"""Where encoded rows lie: in memory, or in a file without a name that goes with the process, however it ends."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from millrace.errors import TrainingError

log = logging.getLogger(__name__)
_LEAST_BLOCK = 4_096
_SHARE_OF_BLOCK = 16


def exceeds(rows: int, width: int, budget: int) -> bool:
    """Whether rows of float32 take more than half of a budget of bytes; the other half is for what is made of them."""
    return 8 * rows * width > budget


class Matrix:
    """Rows in memory."""

    block_rows = 0

    def __init__(self, rows: int, width: int) -> None:
        self._rows = np.empty((rows, width), np.float32)

    def window(self, start: int, end: int) -> NDArray[np.float32]:
        """Some of the rows, to be written."""
        return self._rows[start:end]

    def whole(self) -> NDArray[np.float32]:
        """All of them."""
        return self._rows


class MappedMatrix:
    """Rows in a file of which no more is in memory than is being worked on.

    Args:
        rows: how many.
        width: values of each.
        folder: where the file lies; it is made.
        budget: bytes of memory that a share is taken of for a block of rows.

    Raises:
        TrainingError: there is no room for it.
    """

    def __init__(self, rows: int, width: int, *, folder: Path, budget: int) -> None:
        self._shape, size = (rows, width), 4 * rows * width
        self.block_rows = max(_LEAST_BLOCK, budget // (_SHARE_OF_BLOCK * 4 * width))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as what is mapped
            os.posix_fallocate(self._file.fileno(), 0, size)
        except OSError as error:
            raise TrainingError(
                f"no file of {size / 1e9:.1f} GB for the encoded rows: {error.strerror}",
                where=str(folder),
                remedy="make room there, or raise resources.memory of the candidate",
            ) from error
        log.info("%d encoded rows of %.1f GB go to a file in %s", rows, size / 1e9, folder)

    def window(self, start: int, end: int) -> NDArray[np.float32]:
        """Some of the rows, to be written."""
        shape = (end - start, self._shape[1])
        return np.memmap(self._file, np.float32, "r+", offset=4 * start * self._shape[1], shape=shape)

    def whole(self) -> NDArray[np.float32]:
        """All of them, to be read."""
        return np.memmap(self._file, np.float32, "r", shape=self._shape)
