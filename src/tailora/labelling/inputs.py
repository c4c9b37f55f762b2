"""What a session works on: images, their features, and what there is to begin with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from tailora.config.recipe import Recipe
from tailora.data import Dataset
from tailora.errors import DataError, RunError
from tailora.features.bank import FeatureBank
from tailora.heads.linear_probe import predict_logits
from tailora.inference.search_pool import Pool, open_pool
from tailora.labelling.settings import Settings
from tailora.progress import Progress, silent
from tailora.storage import read_arrays, write_atomically

if TYPE_CHECKING:  # a session that goes on need not wait for it
    from tailora.runs.run import Run

START: Final = "start.npz"
"""Of a session: features of examples, and what a run says of all images."""
_LIKE: Final = "like-"


@final
@dataclass(frozen=True, eq=False)
class Start:
    """What there is before the first answer.

    Args:
        examples: Features (examples, width) of the examples of each class, by its index.
        first: Probabilities (images, classes) by a run whose classes these are.
    """

    examples: Mapping[int, NDArray[np.floating]]
    first: NDArray[np.floating] | None

    def write(self, folder: Path) -> None:
        """Write it into a session."""
        arrays = {f"{_LIKE}{c}": np.asarray(rows) for c, rows in self.examples.items()}
        if self.first is not None:
            arrays["first"] = np.asarray(self.first)
        write_atomically(folder / START, lambda path: np.savez(path, allow_pickle=False, **arrays))


def read_start(folder: Path) -> Start:
    """Read it from a session.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        arrays = read_arrays(folder / START)
    except FileNotFoundError as error:
        raise RunError(f"the session {str(folder)!r} lacks {START}: copy it whole") from error
    examples = {int(k[len(_LIKE) :]): v for k, v in arrays.items() if k.startswith(_LIKE)}
    return Start(examples, arrays.get("first"))


def make_inputs(
    pool: Pool,
    run: "Run | None",
    recipe: Recipe,
    folder: Path,
    *,
    classes: Sequence[str],
    like: Mapping[str, Sequence[str | Path]],
    skip_broken: bool,
    progress: Progress = silent,
) -> tuple[NDArray[np.float32], FeatureBank, Start]:
    """Return the features of all images, where they are kept, and what there is to begin with.

    Args:
        pool: The images.
        run: Its encoder is used; None uses the pretrained encoder of the recipe.
        recipe: That of the run, or with the encoder.
        folder: Keeps features.
        classes: Of the session.
        like: Examples of classes by name, as `tailora.search` takes them.
        skip_broken: Leave out unreadable images, instead of stopping.
        progress: Shows images done.

    Raises:
        DataError: An image or an example cannot be used.
        BackboneError: The encoder cannot be loaded, or does not fit the images.
    """
    # what follows imports PEFT and takes seconds, for which a session that goes on need not wait
    from tailora.inference.search_encoder import encoder_and_bank, kept_features
    from tailora.inference.search_examples import features_of, find_examples, prepared

    named = {classes.index(name): find_examples(texts, pool) for name, texts in like.items()}
    encoder, bank = encoder_and_bank(pool, run, recipe, folder, skip_broken=skip_broken)
    read = {
        c: [one.read(pool, recipe.data, encoder.stored) for one in own] for c, own in named.items()
    }
    inputs = {c: prepared(own, encoder) for c, own in read.items()}  # refused before minutes
    features, _ = kept_features(pool, encoder, bank, skip_broken=skip_broken, progress=progress)
    examples = {c: features_of(own, inputs[c], encoder, features) for c, own in read.items()}
    return features, bank, Start(examples, _first(run, features, classes))


def open_again(settings: Settings, data: str | Path | Dataset | None = None) -> Pool:
    """Open the images of a session.

    Args:
        settings: Of the session.
        data: Where they are now, if they have moved.

    Raises:
        RunError: They are others, or have changed.
        DataError: They cannot be opened.
    """
    run = _run_of(settings) if settings.chip is not None else None
    options = run.recipe.data if run else settings.full_recipe().data
    pool = open_pool(
        settings.data if data is None else data, run, options, seed=settings.seed,
        chip=settings.chip, step=settings.step, overlap=False,
    )  # fmt: skip
    if pool.mark != settings.mark or len(pool.source) != settings.images:
        raise RunError(
            f"the session is about {settings.images:,} images of {settings.name!r}, and these "
            f"{len(pool.source):,} of {pool.name!r} are others or have changed: state the data of "
            "the session, or another --out"
        )
    return pool


def kept_again(settings: Settings) -> NDArray[np.float32] | None:
    """Return the features that the session was made with, if they are still there."""
    bank = FeatureBank(Path(settings.features), settings.manifest)
    return bank.kept(settings.images, settings.width)


def features_again(
    settings: Settings, pool: Pool, *, progress: Progress = silent
) -> NDArray[np.float32]:
    """Compute features as the session was made with them.

    Raises:
        RunError: The encoder has changed since then, or its run cannot be loaded.
    """
    from tailora.inference.search_encoder import encoder_and_bank, kept_features

    run = _run_of(settings)
    recipe = run.recipe if run else settings.full_recipe()
    encoder, bank = encoder_and_bank(
        pool, run, recipe, Path(settings.features).parent, skip_broken=settings.skip_broken
    )
    features, _ = kept_features(
        pool, encoder, bank, skip_broken=settings.skip_broken, progress=progress
    )
    return features


def _run_of(settings: Settings) -> "Run | None":
    if settings.run is None:
        return None
    from tailora.runs.run import load_run

    return load_run(settings.run)


def _first(
    run: "Run | None", features: NDArray[np.float32], classes: Sequence[str]
) -> NDArray[np.float32] | None:
    """Return what a run says of all images, if it knows no class that the session lacks."""
    if run is None or run.recipe.probe.layers or not set(run.class_names) <= set(classes):
        return None
    logits = torch.from_numpy(predict_logits(run.model.head, features)).double()
    found = np.zeros((len(features), len(classes)), dtype=np.float32)
    found[:, [classes.index(name) for name in run.class_names]] = logits.softmax(dim=1).numpy()
    return found


def spec_of(data: str | Path | Dataset) -> str:
    """Return how a session finds its data again.

    Raises:
        DataError: It is an object of Python that has no path.
    """
    if isinstance(data, Dataset):
        raise DataError(
            "a session finds its images again by name or path: state that in place of a Dataset"
        )
    path = Path(data)
    return str(path.resolve()) if path.exists() else str(data)
