"""Features of a split under a stage's weights, made once and kept."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tailora.features import FeatureBank, extract, make_together
from tailora.methods.job import Job
from tailora.runs.weights import load_adapted, weights_fingerprint
from tailora.train.base_adaptation import AnyEncoder
from tailora.train.objectives import dihedral


def features(
    job: Job, method: str, split: str, encoder: AnyEncoder | None = None, *, turn: int = 0
) -> NDArray[np.float32]:
    """Features of a split under a stage's weights, from its bank or computed now.

    Args:
        job: The run.
        method: The stage.
        split: `"train"`, `"val"` or `"test"`.
        encoder: The stage's encoder if it is at hand; else it is read from the run folder.
        turn: Symmetry of the square that images are seen in; see `dihedral`.
    """
    if method == "deblora" and not job.recipe.deblora.epochs:
        method, encoder = "lora", None  # no new adapter: these features are there already
    folder = job.folder.stage(method)
    rows = job.dataset.indices(split)
    manifest = job.feature_manifest(split, weights_fingerprint(folder))
    view = f"{split}-turned-{turn}" if turn else split
    bank = FeatureBank(folder / f"features-{view}", manifest)
    device = job.accelerator.device

    def turned(batch: NDArray[np.int64]) -> Tensor:
        return dihedral(job.read_batch(batch), np.full(len(batch), turn))

    def fill(mine: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        model = (load_adapted(job.encoder, folder) if encoder is None else encoder).to(device)
        with job.folder.costs(method).measure(f"{view} features"):
            extract(
                model, turned if turn else job.read_batch, mine, out=out, device=device,
                progress=job.progress, title=f"{method}: {view} features",
            )  # fmt: skip

    return make_together(bank, rows, job.encoder.features, fill, job.accelerator)
