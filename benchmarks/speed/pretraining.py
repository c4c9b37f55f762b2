"""What debLoRA costs beside self-supervised pre-training: measured steps, and the cost model.

    python -m benchmarks.speed.pretraining

Steps of LoRA, of all weights, of a masked autoencoder (what SatMAE builds on) and of MoCo-v3 are
timed in turns on encoders of equal size. How long a pre-training lasts is not measured: its images
and epochs are options, round numbers that were chosen here and are those of no paper.
"""

import argparse
import copy
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model, ViTMAEConfig, ViTMAEForPreTraining

from benchmarks import cost_model
from benchmarks.cost_model import Vit, Work
from benchmarks.speed.demo_encoder import Subject, load_subject
from benchmarks.speed.ratios import RESULTS, take_turns, write_result
from tailora.config.recipe import Recipe
from tailora.counts import GROUP_NAMES

SEED, RANK, SEEN = 0, 8, 0.25
STEPS = 4  # a run, so that what comes before the first hardly counts
PROJECTOR, CODE = 4096, 256
LARGE = Vit(width=1024, depth=24, hidden=4096, patches=196, patch_values=768)  # ViT-L/16, 224 px


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/pretraining.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--backbone", default="dinov2-small")
    options.add_argument("--image-size", type=int)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--projector", type=int, default=PROJECTOR, help="width, of MoCo-v3")
    options.add_argument("--pretraining-images", type=int, default=100_000)
    options.add_argument("--pretraining-epochs", type=int, default=100)
    options.add_argument("--demo", type=Path, default=RESULTS / "demo.json")
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    given.images = given.batch * STEPS
    subject = load_subject(given.backbone, images=given.images, size=given.image_size, seed=SEED)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        steps = {
            "LoRA": subject.epoch(rank=RANK, batch_size=given.batch),
            "all weights": subject.epoch(rank=None, batch_size=given.batch),
            "masked autoencoder": masked_steps(subject, given.batch),
            "MoCo-v3": momentum_steps(subject, given.batch, hidden=given.projector),
        }
        measured = take_turns(steps, repeats=given.repeats)
    passes = deblora_passes(json.loads(given.demo.read_text("utf-8")), Recipe())
    result = {
        "encoder": subject.name,
        "image_size": subject.pixels.shape[-1],
        "batch_size": given.batch,
        "images": given.images,
        "rank": RANK,
        "share_seen": SEEN,
        "decoder": {"width": decoder_of(subject.vit).width, "depth": decoder_of(subject.vit).depth},
        "steps": measured,
        "passes": passes,
        "assumed": {
            "images": given.pretraining_images,
            "epochs": given.pretraining_epochs,
            "why": "round numbers chosen here, those of no paper",
        },
        "costs": {
            "small": _with_hours(
                _costs(subject.vit, given, passes), subject, measured, given.projector
            ),
            "ViT-L/16, 224 px": _costs(LARGE, given, passes),
        },
    }
    write_result("pretraining", result, seed=SEED, arguments=arguments, out=given.out)


def decoder_of(vit: Vit) -> Vit:
    """A light decoder for a masked autoencoder: half as wide and a third as deep."""
    width = vit.width // 2
    return Vit(width, max(vit.depth // 3, 1), 4 * width, vit.patches, vit.patch_values)


def deblora_passes(demo: dict[str, Any], recipe: Recipe) -> dict[str, int]:
    """Count how often an image goes through the encoder in the demo, by what happens to it.

    Args:
        demo: The committed demo: its split sizes and classes.
        recipe: Epochs of both trainings.
    """
    images = {part: demo["run"]["dataset"][f"n_{part}"] for part in ("train", "val", "test")}
    classes = demo["metrics"]["methods"][-1]["per_class"]
    tail = set(demo["metrics"]["groups"][GROUP_NAMES[-1]])
    moving = sum(row["n_train"] for row in classes if row["name"] in tail)
    every = sum(images.values())
    return {
        "train_images": images["train"],
        "lora_learnt": images["train"] * recipe.train.epochs,
        "pretrained_seen": every,  # features of all splits
        "lora_seen": every,
        "deblora_learnt": moving * recipe.deblora.epochs,
        "deblora_seen": every,
    }


def _costs(vit: Vit, given: argparse.Namespace, passes: dict[str, int]) -> list[dict[str, Any]]:
    """Operations and parameters of each way, by the cost model."""
    many = given.pretraining_images * given.pretraining_epochs
    learning = cost_model.lora_step(vit, 1, rank=RANK)
    plain, seeing = cost_model.forward(vit, 1), cost_model.forward(vit, 1, rank=RANK)
    start = plain * passes["pretrained_seen"]
    lora = start + learning * passes["lora_learnt"] + seeing * passes["lora_seen"]
    more = learning * passes["deblora_learnt"] + seeing * passes["deblora_seen"]
    full = start + cost_model.full_step(vit, 1) * passes["lora_learnt"]
    full += plain * passes["lora_seen"]
    masked = cost_model.masked_step(vit, decoder_of(vit), 1, seen=SEEN)
    momentum = cost_model.momentum_step(vit, 1, hidden=given.projector, out=CODE)
    adapter = vit.adapter_parameters(RANK)
    demo, assumed = passes["train_images"], given.pretraining_images
    return [
        _cost("LoRA", lora, adapter, demo),
        _cost("debLoRA", lora + more, adapter, demo),
        _cost("all weights", full, vit.parameters, demo),
        _cost("masked autoencoder", masked * many, vit.parameters, assumed),
        _cost("MoCo-v3", momentum * many, vit.parameters, assumed),
    ]


def _cost(way: str, work: Work, parameters: int, images: int) -> dict[str, Any]:
    return {"way": way, "operations": work.operations, "parameters": parameters, "images": images}


def _with_hours(
    costs: list[dict[str, Any]], subject: Subject, measured: dict[str, Any], projector: int
) -> list[dict[str, Any]]:
    """Add hours on this machine: operations at the rate that the steps of each way reached."""
    vit, images = subject.vit, len(subject.pixels)
    one = {
        "LoRA": cost_model.lora_step(vit, images, rank=RANK),
        "all weights": cost_model.full_step(vit, images),
        "masked autoencoder": cost_model.masked_step(vit, decoder_of(vit), images, seen=SEEN),
        "MoCo-v3": cost_model.momentum_step(vit, images, hidden=projector, out=CODE),
    }
    one["debLoRA"] = one["LoRA"]
    for cost in costs:
        way = cost["way"]
        seconds = measured["LoRA" if way == "debLoRA" else way]["median_seconds"]
        cost["hours"] = cost["operations"] * seconds / one[way].operations / 3600
    return costs


def masked_steps(subject: Subject, batch: int) -> Callable[[], None]:
    """Give steps of a masked autoencoder of the encoder's sizes, on random weights."""
    vit, decoder = subject.vit, decoder_of(subject.vit)
    heads = subject.config.num_attention_heads
    patch = subject.config.patch_size
    model = ViTMAEForPreTraining(
        ViTMAEConfig(
            hidden_size=vit.width, num_hidden_layers=vit.depth, num_attention_heads=heads,
            intermediate_size=vit.hidden, image_size=subject.pixels.shape[-1], patch_size=patch,
            num_channels=subject.pixels.shape[1], mask_ratio=1 - SEEN,
            decoder_hidden_size=decoder.width, decoder_num_hidden_layers=decoder.depth,
            decoder_num_attention_heads=max(heads // 2, 1),
            decoder_intermediate_size=decoder.hidden,
        )
    ).train()  # fmt: skip
    return _learning(model, lambda pixels: model(pixels).loss, subject, batch)


def momentum_steps(subject: Subject, batch: int, *, hidden: int) -> Callable[[], None]:
    """Give steps of MoCo-v3 of the encoder's sizes, on random weights; see `cost_model`."""
    config: Dinov2Config = subject.config
    width = config.hidden_size
    fast = _Projected(Dinov2Model(config), _mlp(width, hidden, hidden, CODE)).train()
    slow = copy.deepcopy(fast).requires_grad_(requires_grad=False)
    predictor = _mlp(CODE, hidden, CODE)

    def loss(pixels: Tensor) -> Tensor:
        views = pixels, pixels.flip(-1)
        queries = [predictor(fast(view)) for view in views]
        with torch.no_grad():
            for kept, new in zip(slow.parameters(), fast.parameters(), strict=True):
                kept.lerp_(new, 0.01)
            keys = [slow(view) for view in views]
        return contrast(queries[0], keys[1]) + contrast(queries[1], keys[0])

    return _learning(nn.ModuleList([fast, predictor]), loss, subject, batch)


class _Projected(nn.Module):
    def __init__(self, backbone: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.backbone, self.projector = backbone, projector

    def forward(self, pixels: Tensor) -> Tensor:
        return self.projector(self.backbone(pixels).last_hidden_state[:, 0])


def contrast(queries: Tensor, keys: Tensor, *, temperature: float = 0.2) -> Tensor:
    """Tell each image's own key from those of the batch, by cosine."""
    cosines = nn.functional.normalize(queries) @ nn.functional.normalize(keys).T
    return nn.functional.cross_entropy(cosines / temperature, torch.arange(len(queries)))


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _learning(
    module: nn.Module, loss: Callable[[Tensor], Tensor], subject: Subject, batch: int
) -> Callable[[], None]:
    """Give what takes a step for each batch of the images."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)

    def epoch() -> None:
        for start in range(0, len(subject.pixels), batch):
            pixels = torch.from_numpy(subject.pixels[start : start + batch])
            optimizer.zero_grad(set_to_none=True)
            loss(subject.encoder.normalise(pixels)).backward()
            optimizer.step()

    return epoch


if __name__ == "__main__":
    main(sys.argv[1:])
