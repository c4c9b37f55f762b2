"""Run an encoder over images in evaluation mode and collect its features."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.progress import Progress, silent

Item = TypeVar("Item")


def extract(
    encoder: nn.Module,
    read_batch: Callable[[NDArray[np.int64]], Tensor],
    rows: NDArray[np.int64],
    *,
    out: NDArray[np.float32] | None = None,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
    title: str = "features",
    model: Callable[[Tensor], Tensor] | None = None,
) -> NDArray[np.float32]:
    """Encode samples without augmentation.

    Each batch is collected after the next one is submitted, so that a device works while images are
    read.

    Args:
        encoder: Maps a batch of images to (batch, features); its train/eval modes are restored.
        read_batch: Returns the images (batch, bands, height, width) of some samples.
        rows: Samples to encode, in the desired order.
        out: Array (len(rows), ..., features) to fill, e.g. a memory map; None makes one.
        batch_size: Images per forward pass.
        device: Device of the encoder.
        progress: Shows progress.
        title: Text of the progress bar.
        model: Computes features (batch, ..., features) with the encoder; None is the encoder.

    Returns:
        Features (len(rows), ..., features), float32 unless `out` has another dtype.

    Raises:
        ValueError: `rows` is empty and `out` is None, so the width is unknown.
    """
    call = encoder if model is None else model
    modes = [(part, part.training) for part in encoder.modules()]
    encoder.eval()
    encoded = (
        (start, call(read_batch(rows[start : start + batch_size]).to(device, non_blocking=True)))
        for start in range(0, len(rows), batch_size)
    )
    try:
        with torch.inference_mode(), progress(title, len(rows)) as advance:
            for start, features in _after_the_next(encoded):
                found = features.float().cpu().numpy()  # waits for the device
                if out is None:
                    out = np.empty((len(rows), *found.shape[1:]), dtype=np.float32)
                out[start : start + len(found)] = found
                advance(len(found))
    finally:
        for part, training in modes:
            part.training = training
    if out is None:
        raise ValueError("no rows to encode")
    return out


def _after_the_next(items: Iterable[Item]) -> Iterator[Item]:
    """Yield each item only when the next one is submitted, or there is none."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting
