"""Nearest and second-nearest cluster of many samples: the hot loop of K-means.

NumPy by default, torch on a requested device. Both multiply matrices, block by block, and find the
two lowest scores of a sample. Faiss is not used: it searches the same way, and its two-neighbour
search was slower here (`benchmarks/speed/nearest.py` times it if installed).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from tailora.clustering.block_threads import for_each
from tailora.clustering.centered_rows import CenteredRows, row_slices
from tailora.errors import ConfigError

if TYPE_CHECKING:
    import torch

Integers = NDArray[np.intp]
Numbers = NDArray[np.floating]
Block = Integers | slice

SCORES_AT_ONCE: Final = 2**18  # of one block: 1 MB in float32 stays in the processor's cache
MOST_ROWS: Final = 8192
SHARED_BY: Final = 4  # threads: blocks come in as many, so that none waits for another's last
FEW_CLUSTERS: Final = 64  # below, one operation a cluster is faster than one per sample
DEVICE_SCORES_AT_ONCE: Final = 2**25


class NearestSearch(Protocol):
    """Finds the best cluster of samples, and the gap to the second-best."""

    def update(
        self,
        labels: Integers,
        margins: Numbers,
        rows: Integers | None,
        *,
        slopes: Numbers,
        offsets: Numbers,
    ) -> None:
        """Write the cluster k of smallest x . slopes_k + offsets_k, the first in case of ties.

        Args:
            labels: Output for the cluster, (samples,).
            margins: Output for the lead over the second-best, (samples,); infinite for one cluster.
            rows: Sample indices, (rows,); None for all.
            slopes: (features, clusters).
            offsets: (clusters,).
        """
        ...

    def every(self, step: int, *, first: int) -> "NearestSearch":
        """The same for every `step`-th sample from the one numbered `first`."""
        ...


def nearest_search(X: CenteredRows, device: str | None = None) -> NearestSearch:
    """Select the search implementation.

    Args:
        X: Samples.
        device: A torch device, such as "cuda" or "cpu"; None for NumPy.

    Raises:
        ConfigError: torch cannot use it, or the samples do not fit in memory.
    """
    return NumpySearch(X) if device is None else TorchSearch.on(device, X)


@final
class NumpySearch:
    """Searches blocks of samples on all cores, without copying the samples.

    Args:
        X: Samples.
    """

    def __init__(self, X: CenteredRows) -> None:
        self._X = X

    def every(self, step: int, *, first: int) -> "NumpySearch":
        """The same for every `step`-th sample."""
        return NumpySearch(self._X.every(step, first=first))

    def update(
        self,
        labels: Integers,
        margins: Numbers,
        rows: Integers | None,
        *,
        slopes: Numbers,
        offsets: Numbers,
    ) -> None:
        """Write clusters and margins."""
        clusters = len(offsets)
        two_least = _by_cluster if clusters < FEW_CLUSTERS else _by_sample

        def search(block: Block) -> None:
            scores = self._X.take(block) @ slopes
            labels[block], margins[block] = two_least(scores, offsets)

        size = max(64, min(MOST_ROWS, SCORES_AT_ONCE // clusters))
        for_each(search, _blocks(len(self._X), rows, size))


def _by_cluster(scores: Numbers, offsets: Numbers) -> tuple[Integers, Numbers]:
    """Two least of each row, with operations as long as there are rows."""
    turned = np.add(scores.T, offsets[:, None], out=np.empty(scores.T.shape, dtype=scores.dtype))
    labels, best = take_least(turned)
    return labels, turned.min(axis=0) - best


def take_least(turned: Numbers) -> tuple[Integers, Numbers]:
    """Find the minimum of each column, and set it to infinity.

    Much faster than `argmin` for many short columns.

    Args:
        turned: (clusters, samples), fewer than 256 clusters; overwritten.

    Returns:
        The row of the minimum, the first in case of ties, and the minimum, (samples,).
    """
    last = len(turned) - 1
    rank = np.arange(last, -1, -1, dtype=np.uint8)[:, None]
    best = turned.min(axis=0)
    rows = last - ((turned == best) * rank).max(axis=0).astype(np.intp)  # highest rank: lowest row
    turned[rows, np.arange(len(rows))] = np.inf
    return rows, best


def _by_sample(scores: Numbers, offsets: Numbers) -> tuple[Integers, Numbers]:
    """Two least of each row, with operations as long as there are clusters."""
    scores += offsets
    labels, each = scores.argmin(axis=1), np.arange(len(scores))
    best = scores[each, labels]
    scores[each, labels] = np.inf
    return labels, scores.min(axis=1) - best


@final
class TorchSearch:
    """Searches on a device with a copy of the samples.

    Args:
        samples: (samples, features), centred, on the device.
    """

    def __init__(self, samples: "torch.Tensor") -> None:
        self._samples = samples

    @classmethod
    def on(cls, device: str, X: CenteredRows) -> "TorchSearch":
        """Copy the samples to a device, block by block.

        Raises:
            ConfigError: torch cannot use it, or the samples do not fit in memory.
        """
        import torch

        dtype = torch.float32 if X.dtype == np.float32 else torch.float64
        try:
            samples = torch.empty((len(X), X.width), dtype=dtype, device=torch.device(device))
            for rows in row_slices(len(X), X.width):
                samples[rows] = torch.tensor(X.take(rows)).to(device)
        except (RuntimeError, AssertionError, TypeError) as error:  # torch raises all three
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"device {device!r} cannot hold the samples ({reason}); leave device out for NumPy"
            ) from None
        return cls(samples)

    def every(self, step: int, *, first: int) -> "TorchSearch":
        """The same for every `step`-th sample, on the same memory."""
        return TorchSearch(self._samples[first::step])

    def update(
        self,
        labels: Integers,
        margins: Numbers,
        rows: Integers | None,
        *,
        slopes: Numbers,
        offsets: Numbers,
    ) -> None:
        """Write clusters and margins."""
        import torch

        device = self._samples.device
        slopes_there = torch.tensor(slopes, device=device)
        offsets_there = torch.tensor(offsets, device=device)
        size = max(1, DEVICE_SCORES_AT_ONCE // len(offsets))
        with torch.inference_mode(), _full_precision():
            for block in _blocks(len(self._samples), rows, size):
                there = block if isinstance(block, slice) else torch.tensor(block, device=device)
                scores = torch.addmm(offsets_there, self._samples[there], slopes_there)
                best, nearest = scores.min(dim=1)
                scores.scatter_(1, nearest[:, None], torch.inf)
                labels[block] = nearest.cpu().numpy()
                margins[block] = (scores.amin(dim=1) - best).cpu().numpy()


@contextmanager
def _full_precision() -> Iterator[None]:
    """Multiply float32 as float32: margins count on it, and a user may have asked for less."""
    import torch

    before: Any = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _blocks(samples: int, rows: Integers | None, most: int) -> Iterable[Block]:
    """Blocks of one size, at most `most` rows."""
    count = samples if rows is None else len(rows)
    parts = -(-count // most)
    if parts > 1:
        parts = -(-parts // SHARED_BY) * SHARED_BY
    size = max(1, -(-count // max(1, parts)))
    if rows is None:
        return (slice(start, start + size) for start in range(0, count, size))
    return (rows[start : start + size] for start in range(0, count, size))
