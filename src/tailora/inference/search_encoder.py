"""The encoder of a search: that of a run with its adapter, or a pretrained one."""

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.backbones import AnyEncoder, load_backbone
from tailora.backbones.symmetries import VIEWS, over_views
from tailora.config.recipe import Recipe
from tailora.data import prepare_images, resize
from tailora.errors import ConfigError
from tailora.features import FeatureBank
from tailora.inference.image_input import LEARNT, pick_bands
from tailora.inference.search_pool import Pool
from tailora.methods.checks import check_encoder
from tailora.methods.prepare import match_bands, resolve_recipe
from tailora.progress import Progress, silent
from tailora.runs.input_format import InputFormat
from tailora.runs.run import Run, make_encoder
from tailora.runs.weights import weights_fingerprint
from tailora.storage import read_json, write_json

_FORMAT: Final = 1  # of the kept features
_SAMPLED: Final = 256  # images whose pixels say how a pretrained encoder's input is normalised
_INPUT: Final = "input.json"


@final
@dataclass(frozen=True, eq=False)
class SearchEncoder:
    """Turns images into features.

    Args:
        module: The encoder.
        model: Features (batch, width) of images (batch, bands, size, size).
        input: What it takes.
        stored: Bands of the images that it was made for.
        width: Length of a feature vector.
        of: What those images are, for messages.
    """

    module: nn.Module
    model: Callable[[Tensor], Tensor]
    input: InputFormat
    stored: int
    width: int
    of: str

    def prepare(self, image: NDArray[Any], names: Any, what: str) -> NDArray[Any]:
        """Return the input of the model (bands, size, size) for an image; see `pick_bands`."""
        chosen = pick_bands(image, names, self.input, self.stored, what=what, of=self.of)
        return resize(chosen, self.input.image_size, fit=self.input.resize)

    def encode(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Return features (images, width) of prepared images."""
        device = next(self.module.parameters()).device
        with torch.inference_mode():
            return self.model(torch.from_numpy(images).to(device)).float().cpu().numpy()


def encoder_and_bank(
    pool: Pool,
    run: Run | None,
    recipe: Recipe,
    folder: Path,
    *,
    views: int = 1,
    skip_broken: bool = False,
) -> tuple[SearchEncoder, FeatureBank]:
    """Load the encoder, and find where the features of the pool are kept.

    Args:
        pool: What is searched.
        run: Its encoder and input are used; None uses the pretrained encoder of the recipe.
        recipe: That of the run, or with the pretrained encoder and how images are read.
        folder: Holds kept features, in a folder each.
        views: 1, or 8 for the mean over flips and quarter turns.
        skip_broken: Whether unreadable images are left out.

    Raises:
        ConfigError: Another number of views, or turned images that have an up.
        BackboneError: The encoder cannot be loaded, or does not fit the bands.
        DataError: No image can be decoded.
    """
    if views not in (1, VIEWS):
        raise ConfigError(f"--views must be 1 or {VIEWS}, got {views}")
    if views == VIEWS and recipe.data.has_up:
        raise ConfigError(f"{VIEWS} views turn images, and data.has_up says they have an up: use 1")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    facts: dict[str, Any] = {"views": views, "device": device, "skip_broken": skip_broken}
    if run is not None:
        module, stored = run.model.encoder.to(device), run.record.dataset.bands
        if recipe.probe.layers:  # of the head alone: the encoder was trained through its output
            module = module.with_layers(recipe.backbone.layers or (-1,))
        facts |= {
            "backbone": run.record.backbone.sha256, "input": run.input.to_json(),
            "weights": weights_fingerprint(run.folder.path),
        }  # fmt: skip
        bank = _bank(folder, pool, recipe, facts)
        return _encoder(module, run.input, stored, LEARNT, views), bank
    loaded = load_backbone(recipe.backbone.name, options=recipe.backbone.options)
    recipe = resolve_recipe(replace(recipe, method="zero-shot"), loaded, pool.some(1))
    size = recipe.data.image_size or 0
    check_encoder(recipe, loaded, labels=np.zeros(1, dtype=np.int64), image_size=size)
    facts |= {"backbone": loaded.sha256, "weights": "pretrained", "data": asdict(recipe.data)}
    bank = _bank(folder, pool, recipe, facts)
    kept = _kept_input(bank)
    if kept is None:
        with tempfile.TemporaryDirectory() as temporary:
            sample = prepare_images(
                pool.some(_SAMPLED), Path(temporary) / "images", image_size=size,
                fit=recipe.data.resize, skip_broken=True,
            )  # fmt: skip
            kept = match_bands(recipe, loaded, sample), sample.bands
    made = make_encoder(loaded, recipe, kept[0]).to(device)
    return _encoder(made, *kept, "the searched images have", views), bank


def kept_features(
    pool: Pool,
    encoder: SearchEncoder,
    bank: FeatureBank,
    *,
    skip_broken: bool = False,
    progress: Progress = silent,
) -> tuple[NDArray[np.float32], bool]:
    """Return the features of all images of a pool, computed unless they were kept.

    Args:
        pool: What is searched.
        encoder: From `encoder_and_bank`.
        bank: From `encoder_and_bank`.
        skip_broken: Leave out unreadable images, instead of stopping.
        progress: Shows images done.

    Returns:
        Memory map (images, width), NaN where an image cannot be used, and whether it was kept.

    Raises:
        DataError: An image cannot be read, or has other bands.
    """
    count = len(pool.source)
    kept = bank.kept(count, encoder.width)
    if kept is not None:
        return kept, True

    def prepare(image: NDArray[Any], what: str) -> NDArray[Any]:
        return encoder.prepare(image, pool.bands, what)

    def fill(out: NDArray[np.float32]) -> None:
        out[:] = np.nan
        with progress(f"features of {pool.name}", count) as advance:
            for done, rows, images in pool.read(prepare, skip_broken=skip_broken):
                if len(rows):
                    out[rows] = encoder.encode(images)
                advance(done)
        facts = {"input": encoder.input.to_json(), "stored": encoder.stored}
        write_json(bank.folder / _INPUT, facts)

    try:
        return bank.load_or_make(count, encoder.width, fill), False
    except BaseException:
        bank.remove()
        with suppress(OSError):  # others are kept there
            bank.folder.parent.rmdir()
        raise


def _encoder(
    module: AnyEncoder, given: InputFormat, stored: int, of: str, views: int
) -> SearchEncoder:
    model = partial(over_views, module) if views > 1 else module
    return SearchEncoder(module, model, given, stored, module.features, of)


def _bank(folder: Path, pool: Pool, recipe: Recipe, facts: dict[str, Any]) -> FeatureBank:
    """Return where features are kept that follow from these facts, the recipe and the pool."""
    options = {name: v for name, v in asdict(recipe.backbone).items() if name != "name"}
    options |= {"precision": recipe.compute.precision}
    whole = json.dumps({"format": _FORMAT, "pool": pool.mark, "options": options} | facts)
    digest = hashlib.blake2b(whole.encode(), digest_size=6).hexdigest()
    name = re.sub(r"[^\w.-]+", "-", pool.name)[:40].strip("-.")
    return FeatureBank(folder / f"{name}-{digest}", json.loads(whole))


def _kept_input(bank: FeatureBank) -> tuple[InputFormat, int] | None:
    if not bank.matches():
        return None
    try:
        kept = read_json(bank.folder / _INPUT)
        return InputFormat.from_json(kept["input"]), int(kept["stored"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
