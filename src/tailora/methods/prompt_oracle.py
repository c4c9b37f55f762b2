"""Stable Diffusion told the class of each image in its prompt: an ablation that leaks the label.

The paper's public scripts put the true class name into the prompt when they compute features, of
validation images too. A probe on such features reads the answer. The row is done only by name
(`prompt-oracle`) and marked wherever it is shown; it says how much of a published number may be due
to the leak.

Reference: debLoRA's public feature script, prompt "aerial image of" and the category.
"""

import copy
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora.backbones import LoadedBackbone
from tailora.backbones.other_sources import DIFFUSERS
from tailora.backbones.stable_diffusion import StableDiffusionFeatures, embed_prompts
from tailora.errors import BackboneError
from tailora.features import FeatureBank, extract
from tailora.methods.job import Job

PROMPT_ORACLE: Final = "prompt-oracle"
_PROMPT: Final = "aerial image of {}"


def check_prompts(loaded: LoadedBackbone) -> None:
    """Refuse an encoder that takes no prompt.

    Raises:
        BackboneError: It is not Stable Diffusion.
    """
    if not isinstance(loaded.model, StableDiffusionFeatures):
        raise BackboneError(
            f"{PROMPT_ORACLE!r} puts class names into a prompt, and {loaded.name!r} takes none; "
            "leave it out, or use Stable Diffusion"
        )


def class_prompt_features(job: Job, split: str) -> NDArray[np.float32]:
    """Features of every sample under a prompt with its true class. This leaks the label."""
    check_prompts(job.loaded)
    rows = job.dataset.indices(split)
    folder = job.folder.stage(PROMPT_ORACLE)
    bank = FeatureBank(folder / f"features-{split}", job.feature_manifest(split, PROMPT_ORACLE))

    def fill(out: NDArray[np.float32]) -> None:
        with job.folder.costs(PROMPT_ORACLE).measure(f"{split} features"):
            _fill(job, rows, out)

    return np.asarray(bank.load_or_make(len(rows), job.encoder.features, fill))


def _fill(job: Job, rows: NDArray[np.int64], out: NDArray[np.float32]) -> None:
    encoder = copy.deepcopy(job.encoder)
    model: Any = encoder.backbone
    where = str(Path(job.loaded.name.removeprefix(DIFFUSERS)).expanduser())
    names = [_PROMPT.format(name) for name in job.counts.names]
    prompts = embed_prompts(where, names, local=True)  # it was loaded before, so it is here
    labels = job.labels[rows]
    for category in np.unique(labels):
        model.text = prompts[category : category + 1].to(model.text)
        mine = np.flatnonzero(labels == category)
        out[mine] = extract(
            encoder, job.read_batch, rows[mine], device=job.accelerator.device,
            progress=job.progress, title=f"{PROMPT_ORACLE}: {job.counts.names[category]}",
        )  # fmt: skip
