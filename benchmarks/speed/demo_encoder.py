"""The encoder of the demo, the steps of tailora on it, and its sizes for the cost model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import from_numpy, nn

from benchmarks.cost_model import Vit
from tailora.adapters import AdapterSpec
from tailora.backbones import Encoder, load_backbone
from tailora.features import extract
from tailora.heads.linear_probe import zero_linear
from tailora.progress import silent
from tailora.train.base_adaptation import TrainingContext, adapt_to_labels
from tailora.train.objectives import Images
from tailora.train.schedule import Schedule

CLASSES = 12
PATCHES_A_SIDE = 5


@dataclass(frozen=True)
class Subject:
    """An encoder and generated images for it.

    Args:
        name: Of the encoder.
        encoder: Frozen.
        pixels: uint8, (images, bands, size, size).
        labels: (images,).
    """

    name: str
    encoder: Encoder
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Every image once."""
        return np.arange(len(self.pixels))

    @property
    def config(self) -> Any:
        """The encoder's transformers configuration."""
        return self.encoder.backbone.config

    @property
    def vit(self) -> Vit:
        """Sizes of the encoder on these images."""
        return vit_of(self.config, size=self.pixels.shape[-1], bands=self.pixels.shape[1])

    def read(self, rows: NDArray[np.int64]) -> Any:
        """Give images by number."""
        return from_numpy(self.pixels[rows])

    def epoch(self, *, rank: int | None, batch_size: int, images: Images | None = None) -> Any:
        """Give what trains one epoch as `tailora fit` does: LoRA of a rank, or all for None."""
        context = TrainingContext(images or self.read, Accelerator(), silent, seed=0)
        spec = None if rank is None else AdapterSpec(rank=rank)
        head = zero_linear(self.encoder.features, CLASSES)

        def run() -> None:
            adapt_to_labels(
                self.encoder, context, self.rows, self.labels, spec=spec,
                schedule=Schedule(epochs=1, batch_size=batch_size, lr=1e-3),
                loss=nn.CrossEntropyLoss(), head=head, augment="dihedral",
            )  # fmt: skip

        return run

    def extraction(self, *, batch_size: int, images: Images | None = None) -> Callable[[], object]:
        """Give what extracts the features of all images."""
        read = images or self.read
        return lambda: extract(self.encoder, read, self.rows, batch_size=batch_size)


def load_subject(name: str, *, images: int, size: int | None = None, seed: int = 0) -> Subject:
    """Load an encoder and draw images.

    Args:
        name: Of the encoder, as `--backbone` takes it.
        images: How many.
        size: Their side in pixels; None takes five patches, as the demo does.
        seed: Of pixels and labels.
    """
    loaded = load_backbone(name)
    encoder = Encoder(loaded.model, pooling="both", mean=loaded.mean, std=loaded.std)
    encoder.requires_grad_(requires_grad=False).eval()
    size = PATCHES_A_SIDE * loaded.model.config.patch_size if size is None else size
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (images, len(loaded.mean), size, size), dtype=np.uint8)
    return Subject(loaded.name, encoder, pixels, rng.integers(0, CLASSES, images))


def vit_of(config: Any, *, size: int, bands: int) -> Vit:
    """Read the sizes of a vision transformer from its transformers configuration."""
    hidden = getattr(config, "intermediate_size", None)
    if hidden is None:
        hidden = int(config.hidden_size * config.mlp_ratio)
    return Vit(
        width=config.hidden_size,
        depth=config.num_hidden_layers,
        hidden=hidden,
        patches=(size // config.patch_size) ** 2,
        patch_values=bands * config.patch_size**2,
        prefix=1 + (getattr(config, "num_register_tokens", None) or 0),
    )
