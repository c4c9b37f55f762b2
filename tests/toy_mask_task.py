"""A second task, as a package of one's own would add it: a class for every cell of a mask."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch.nn import functional

from tailora.backbones import Encoder
from tailora.backbones.symmetries import dihedral
from tailora.data import FileImages, assemble_targets
from tailora.errors import BackboneError, DataError
from tailora.report.blocks import Note, Section
from tailora.tasks.task import Task

UNLABELLED = 255
CLASSES = ("field", "water", "mine")


class Masks:
    """Masks beside images, of the same name; an image may have none."""

    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def read(self, i):
        return np.asarray(Image.open(self.paths[i])) if self.paths[i].exists() else None

    def tally(self):
        masks = [self.read(i) for i in range(len(self))]
        counts = [
            [0] * len(CLASSES)
            if m is None
            else np.bincount(m[m != UNLABELLED], minlength=len(CLASSES))
            for m in masks
        ]
        return np.array(counts, dtype=np.int64)

    def mark(self, i):
        path = self.paths[i]
        return (path.stat().st_size, hash(path.read_bytes()) % 2**31) if path.exists() else (0, 0)


class ToyMask(Task):
    """Decide what covers each token of an image."""

    name = "toy-mask"
    title = "toy masks"
    summary = "what covers each token of an image"
    decision = "token"
    per_image = False

    def open(self, source, *, seed=0, to_learn=True, **_):
        images = sorted((Path(source) / "images").glob("*.png"))
        if not images:
            raise DataError(f"{str(source)!r} has no images/*.png; put images there, and masks")
        masks = Masks([Path(source) / "masks" / path.name for path in images])
        return assemble_targets(
            Path(source).name,
            FileImages(images, [path.name for path in images]),
            masks,
            classes=CLASSES,
            seed=seed,
            to_learn=to_learn,
        )

    def check(self, data):
        if data.targets is None:
            raise DataError(f"data set {data.name!r} has no masks, which task 'toy-mask' needs")

    def grid(self, encoder, image_size):
        if not isinstance(encoder, Encoder):
            raise BackboneError("toy-mask needs the tokens of an encoder")
        side = encoder.patches_a_side(image_size)
        return side, side

    def targets(self, data, grid, *, fit="crop"):
        found = np.full((len(data), *grid), -1)
        for i in range(len(data)):
            mask = data.targets.read(i)
            if mask is not None:
                found[i] = majority(mask, grid)
        return found

    def names(self, data, decisions, grid):
        pairs = zip(decisions.sample, decisions.place, strict=True)
        return [
            f"{data.source.id(int(i))}#{place // grid[1]},{place % grid[1]}" for i, place in pairs
        ]

    def model(self, encoder):
        return encoder.patch_features

    def turned(self, targets, turns):
        return dihedral(targets[:, None], turns)[:, 0]

    def extra_losses(self, features, logits, targets):
        labels = functional.one_hot(targets[targets >= 0], len(CLASSES)).float()
        shares = logits.reshape(-1, *logits.shape[-2:]).softmax(dim=-1).mean(dim=0)  # of experts
        overlap = 2 * (shares * labels).sum(0) / (shares + labels).sum(0).clamp(min=1e-6)
        return {"dice": 0.1 * (1 - overlap[labels.any(0)].mean())}

    def metrics(self, decisions, predicted, *, classes, groups):
        hit = [np.sum((decisions.labels == c) & (predicted == c)) for c in range(len(classes))]
        either = [np.sum((decisions.labels == c) | (predicted == c)) for c in range(len(classes))]
        return {"iou": {n: float(h / e) for n, h, e in zip(classes, hit, either, strict=True)}}

    def sections(self):
        return (iou_section,)


def majority(mask, grid):
    """The class that most labelled pixels of each cell have; of equals the first."""
    height, width = (side // cells for side, cells in zip(mask.shape, grid, strict=True))
    cells = mask.reshape(grid[0], height, grid[1], width)
    counts = np.stack([(cells == c).sum(axis=(1, 3)) for c in range(len(CLASSES))])
    return np.where(counts.any(axis=0), counts.argmax(axis=0), -1)


def iou_section(run):
    found = ", ".join(f"{name} {value:.2f}" for name, value in run.metrics.task["iou"].items())
    return Section(
        "iou",
        "Overlap of each class",
        "Of tokens that are or are called a class, the share of both.",
        (Note(f"Intersection over union: {found}."),),
    )


def write_mask_data(folder, *, images=26, unlabelled=4, seed=0):
    """Images (28 px) of 4 x 4 cells whose colour hints at their class; the last have no mask."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    cells = rng.choice(len(CLASSES), size=(images, 4, 4), p=[0.7, 0.24, 0.06])
    cells[:, 0, 0] = np.arange(images) % len(CLASSES)
    for i, found in enumerate(cells):
        mask = np.kron(found, np.ones((7, 7), dtype=np.int64)).astype(np.uint8)
        colours = np.array([[60, 120, 40], [30, 60, 160], [170, 150, 120]])[mask]
        noisy = (colours + rng.integers(-25, 25, colours.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "images" / f"{i:02}.png")
        mask[rng.random(mask.shape) < 0.1] = UNLABELLED
        mask[-7:, -7:] = UNLABELLED  # a whole cell that nobody labelled
        if i < images - unlabelled:
            Image.fromarray(mask).save(folder / "masks" / f"{i:02}.png")
    return folder
