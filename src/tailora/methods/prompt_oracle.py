"""Stable Diffusion with the true class of each image in its prompt: an ablation that leaks labels.

The paper's public scripts put the true class name into the prompt when they extract features, also
of validation images. A probe on such features can read off the label. The method is run only by
name (`prompt-oracle`) and marked as leaking in every table; it shows how much of a published number
may be due to the leak.

Reference: debLoRA's public feature script, prompt "aerial image of" and the class name.
"""

import copy
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.backbones import LoadedBackbone
from tailora.backbones.other_sources import DIFFUSERS
from tailora.backbones.stable_diffusion import StableDiffusionFeatures, embed_prompts
from tailora.config.recipe import Recipe
from tailora.errors import BackboneError
from tailora.features import FeatureBank, extract
from tailora.methods.job import Job
from tailora.methods.method import INPUT, Method, Rows
from tailora.train.base_adaptation import AnyEncoder

_PROMPT: Final = "aerial image of {}"


@final
class PromptOracle(Method):
    """Stable Diffusion with the true class in its prompt: leaks the label."""

    name = "prompt-oracle"
    title = "class prompt (oracle)"
    summary = "Stable Diffusion with the true class in its prompt: leaks the label, marked as such"
    uses = INPUT
    stands_on = ()
    trains = False
    has_adapter = False
    leaks = True
    only_compared = True
    turns = False
    per_image = True

    def check_encoder(self, recipe: Recipe, loaded: LoadedBackbone, rows: int, width: int) -> None:
        """Reject an encoder that takes no prompt."""
        if not isinstance(loaded.model, StableDiffusionFeatures):
            raise BackboneError(
                f"{self.name!r} puts class names into a prompt, but {loaded.name!r} takes none; "
                "leave it out, or use Stable Diffusion"
            )

    def features(
        self, job: Job, split: str, encoder: AnyEncoder | None = None, *, turn: int = 0
    ) -> Rows:
        """Features of every sample, prompted with its true class. This leaks the label."""
        rows = job.dataset.indices(split)
        folder = job.folder.stage(self.name)
        bank = FeatureBank(folder / f"features-{split}", job.feature_manifest(split, self.name))

        def fill(out: NDArray[np.float32]) -> None:
            with job.folder.costs(self.name).measure(f"{split} features"):
                _fill(job, rows, out)

        return np.asarray(bank.load_or_make(len(rows), job.encoder.features, fill))


def _fill(job: Job, rows: NDArray[np.int64], out: NDArray[np.float32]) -> None:
    encoder = copy.deepcopy(job.encoder)
    model: Any = encoder.backbone
    where = str(Path(job.loaded.name.removeprefix(DIFFUSERS)).expanduser())
    names = [_PROMPT.format(name) for name in job.counts.names]
    prompts = embed_prompts(where, names, local=True)  # already downloaded with the encoder
    labels = job.labels[rows]
    for category in np.unique(labels):
        model.text = prompts[category : category + 1].to(model.text)
        mine = np.flatnonzero(labels == category)
        out[mine] = extract(
            encoder, job.read_batch, rows[mine], device=job.accelerator.device,
            progress=job.progress, title=f"{PromptOracle.name}: {job.counts.names[category]}",
        )  # fmt: skip
