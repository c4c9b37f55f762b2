"""A finished run: load it, predict with it, use its model elsewhere."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora import registry
from tailora.backbones import Encoder, LoadedBackbone, Pooling, Precision, load_backbone
from tailora.backbones.checkpointing import recompute_activations
from tailora.backbones.decibels import Decibels
from tailora.backbones.stem import StemPlan, adapt_stem, plan_stem
from tailora.backbones.symmetries import VIEWS, over_views
from tailora.config.recipe import Recipe
from tailora.errors import ConfigError, RunError
from tailora.heads.probe import Probe
from tailora.heads.probes import ProbeObject, find_probe, probe_names
from tailora.heads.smoothing import smooth_logits
from tailora.objects import Given, as_given, given_again, same
from tailora.registry import method_facts
from tailora.runs.input_format import InputFormat, pick
from tailora.runs.result import RunResult, read_run
from tailora.runs.weights import is_saved, load_adapted, load_head
from tailora.train.base_adaptation import AnyEncoder


class Classifier(nn.Module):
    """Encoder, adapter and head as one module.

    Args:
        encoder: (batch, bands, height, width) stored values to (batch, features).
        head: (batch, features) to (batch, classes).
        views: 8 averages features over the symmetries of each square image; 1 takes the image as
            it is.
    """

    def __init__(self, encoder: AnyEncoder, head: nn.Module, *, views: int = 1) -> None:
        super().__init__()
        self.encoder, self.head, self.views = encoder, head, views

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, bands, height, width) in stored values."""
        return self.head(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Features (batch, features), the input of the head."""
        return over_views(self.encoder, images) if self.views > 1 else self.encoder(images)


@dataclass(frozen=True, kw_only=True)
class Run(RunResult):
    """A finished run with its model.

    Args:
        model: Encoder with adapter, and head, in evaluation mode; `model.encoder.backbone` is the
            `peft.PeftModel`.
    """

    model: Classifier

    def predict_probabilities(
        self,
        images: Tensor,
        *,
        batch_size: int = 64,
        bands: Sequence[int] | None = None,
        raw: bool = False,
    ) -> NDArray[np.float32]:
        """Class probabilities of prepared images, rescaled if that helped on validation.

        Args:
            images: (rows, bands, size, size) in stored values, all bands of the source.
            batch_size: Images per forward pass.
            bands: Numbers, from 1, of the bands the model sees, in its order; None takes the same
                numbers as in the training images.
            raw: Return the probabilities of the head, not rescaled.

        Returns:
            (rows, classes), rows sum to 1.
        """
        chosen = self.input.bands if bands is None else bands
        starts = range(0, len(images), batch_size)
        batches = (pick(images[start : start + batch_size], chosen) for start in starts)
        return self.said(self.predict_batches(batches), raw=raw)

    def predict_batches(self, batches: Iterable[Tensor]) -> NDArray[np.float32]:
        """Class probabilities (rows, classes) of images that are predicted together, not rescaled.

        Args:
            batches: Images (rows, bands, size, size) in stored values, of the bands the model sees.

        Raises:
            DataError: A single image, of a run with `probe.smoothing`.
        """
        options = self.recipe.probe
        if options.smoothing:
            smooth = smooth_logits(
                *self.look_at(batches), share=options.smoothing, neighbours=options.neighbours
            )
            return smooth.softmax(dim=1).numpy()
        device = next(self.model.parameters()).device
        shares = [np.empty((0, len(self.classes)), np.float32)]
        with torch.inference_mode():
            for batch in batches:
                logits = self.model.head(self.model.features(batch.to(device)))
                shares.append(logits.float().softmax(dim=1).cpu().numpy())
        return np.concatenate(shares)

    def look_at(self, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (rows, classes) and features (rows, width) of images, on the processor.

        Args:
            batches: Images (rows, bands, size, size) in stored values, of the bands the model sees.
        """
        device = next(self.model.parameters()).device
        logits, features = [torch.empty(0, len(self.classes))], []
        with torch.inference_mode():
            for batch in batches:
                found = self.model.features(batch.to(device))
                logits.append(self.model.head(found).float().cpu())
                features.append(found.float().cpu())
        return torch.cat(logits), torch.cat(features or logits)

    def said(self, probabilities: NDArray[np.float32], *, raw: bool = False) -> NDArray[np.float32]:
        """Calibrate the probabilities of its head (rows, classes), unless `raw`."""
        if raw or self.calibration is None:
            return probabilities
        return self.calibration.calibrated(probabilities)

    def save(self, path: str | Path) -> Path:
        """Copy the run folder.

        Raises:
            RunError: `path` exists.
        """
        target = Path(path)
        if target.exists():
            raise RunError(f"{str(target)!r} exists: choose another folder")
        shutil.copytree(self.folder.path, target)
        return target


def backbone_given(backbone: nn.Module | LoadedBackbone) -> Given:
    """Describe an encoder object as a recipe records it."""
    model = backbone.model if isinstance(backbone, LoadedBackbone) else backbone
    return as_given("backbones", backbone, about=model)


def probe_given(probe: Probe) -> Given:
    """Describe a head object as a recipe records it."""
    name = probe.name
    if name in probe_names() and same(find_probe(name), probe):
        return Given(name, {}, {})
    return as_given("heads", probe, lend=lambda name, told: ProbeObject(probe, name, told))


def load_run(
    path: str | Path,
    *,
    verify: bool = True,
    backbone: nn.Module | LoadedBackbone | None = None,
    probe: Probe | None = None,
    views: int | None = None,
) -> Run:
    """Load a finished run; besides its folder only the pretrained encoder is needed.

    Args:
        path: The folder.
        verify: Compare every file with its checksum in `run.json`. A run of version 0.1 has no
            checksums: it is read, with a note.
        backbone: The encoder, if the run was fitted on an object.
        probe: The head, if the run was fitted with an object that is not a linear layer.
        views: Views of each image to predict from, 1 or 8; None takes the run's. One view is eight
            times as fast as eight and less accurate; the head, its calibration and what was
            measured on the test remain those of the run.

    Raises:
        ConfigError: Another number of views, or eight of images that have an up.
        RunError: The run is incomplete or in a different format, a file has changed since the run
            was fitted, files contradict each other, or the encoder's pretrained weights differ from
            those it was fitted with.
        BackboneError: The encoder cannot be loaded.
    """
    found = read_run(path, verify=verify)
    views = _checked_views(found.recipe, views)
    lent: dict[tuple[str, str], Callable[..., Any]] = {}
    if backbone is not None:
        own = found.recipe.backbone
        given = backbone_given(backbone)
        lent |= given_again("backbones", own.name, own.options, given, by=("state",)).lent
    if probe is not None:
        head = found.recipe.probe
        lent |= given_again("heads", head.loss, head.loss_options, probe_given(probe)).lent
    with registry.lent(lent):
        return _with_model(found, path, views)


def _checked_views(recipe: Recipe, views: int | None) -> int:
    if views not in (None, 1, VIEWS):
        raise ConfigError(f"views must be 1 or {VIEWS}, got {views}")
    if views == VIEWS and recipe.data.has_up:
        raise ConfigError(
            f"{VIEWS} views turn images, and the run's data.has_up says that they have an up; use 1"
        )
    return views or recipe.probe.views or 1


def _with_model(found: RunResult, path: str | Path, views: int) -> Run:
    folder, record, recipe = found.folder.path, found.record, found.recipe
    loaded = load_backbone(record.backbone.name, options=recipe.backbone.options)
    if loaded.sha256 != record.backbone.sha256:
        raise RunError(
            f"encoder {loaded.name!r} ({loaded.source}) has different weights from those that run "
            f"{str(path)!r} was fitted with ({record.backbone.source}); provide the same"
        )
    if method_facts()[record.method].get("trains", True) and not is_saved(folder):
        raise RunError(
            f"run {str(path)!r} lacks its trained weights: the run folder is incomplete, fit it "
            "again with --force"
        )
    adapted = load_adapted(make_encoder(loaded, recipe, found.input), folder)
    encoder = seen_by_heads(adapted, recipe)
    head = load_head(
        folder / "head.safetensors", classes=len(found.classes), features=encoder.features
    )
    read = {one.name: getattr(found, one.name) for one in fields(found)}
    return Run(**read, model=Classifier(encoder, head, views=views).eval())


def seen_by_heads(encoder: AnyEncoder, recipe: Recipe) -> AnyEncoder:
    """Return an encoder that gives what heads see: its layers, and pixels, of a recipe's probe."""
    layered = encoder.with_layers(recipe.probe.layers or ())
    return layered.with_pixels() if recipe.probe.detail == "stem" else layered


def stem_plan(recipe: Recipe, wavelengths: Sequence[float | None] | None) -> StemPlan | None:
    """Plan the change to the encoder's first layer; None if the recipe leaves it as it is.

    Args:
        recipe: Its `backbone.wavelengths` take precedence over those of the data.
        wavelengths: Wavelengths of the chosen bands in µm, where known.

    Raises:
        ConfigError: See `tailora.backbones.stem.plan_stem`.
    """
    options = recipe.backbone
    if options.stem is None:
        return None
    return plan_stem(
        options.wavelengths or wavelengths, new_bands=options.new_bands, rate=options.new_bands_rate
    )


def make_encoder(loaded: LoadedBackbone, recipe: Recipe, input_format: InputFormat) -> Encoder:
    """Wrap a loaded backbone with a run's pooling and normalisation, frozen."""
    plan = stem_plan(recipe, input_format.wavelengths)
    encoder = Encoder(
        loaded.model if plan is None else adapt_stem(loaded.model, plan),
        pooling=cast("Pooling", recipe.backbone.pooling),  # the encoder rejects any other value
        mean=input_format.mean,
        std=input_format.std,
        scale=input_format.scale,
        radar=_decibels(recipe, input_format),
        precision=cast("Precision", recipe.compute.precision),
        layers=recipe.backbone.layers,
        dates=input_format.dates or 1,
    )
    if recipe.compute.checkpointing:
        recompute_activations(encoder.backbone)
    encoder.requires_grad_(requires_grad=False)
    return encoder.eval()


def _decibels(recipe: Recipe, input_format: InputFormat) -> Decibels | None:
    low, high = input_format.low, input_format.high
    if input_format.radar is None or low is None or high is None:
        return None
    return Decibels(input_format.radar, low, high, looks=recipe.data.looks)
