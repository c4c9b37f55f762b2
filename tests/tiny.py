"""Randomly initialised encoders of some ten thousand parameters, saved as Hugging Face folders."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from tailora.backbones import load_backbone
from tailora.backbones.foundation import VisionModel

KINDS = {
    "dinov2": "Dinov2",
    "dinov2-registers": "Dinov2WithRegisters",
    "dinov3": "DINOv3ViT",
    "vit": "ViT",
    "vit-mae": "ViTMAE",
    "clip-vision": "CLIPVision",
    "clip": "CLIP",
    "siglip-vision": "SiglipVision",
    "siglip": "Siglip",
    "swin": "Swin",
    "convnextv2": "ConvNextV2",
    "resnet": "ResNet",
}
REGISTERS = 3


def tiny_encoder_folder(
    path: Path,
    kind: str = "dinov2",
    *,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 2,
    patch: int = 7,
    image: int = 14,
    bands: int = 3,
    seed: int = 0,
) -> Path:
    """Save a tiny encoder into `path` and return `path`; equal arguments give equal weights.

    Args:
        path: Folder to fill; made when absent.
        kind: A key of `KINDS`.
        hidden: Width of a token; Swin, ConvNeXt and ResNet double it from stage to stage.
        layers: Transformer blocks; stages of one block each in Swin, ConvNeXt and ResNet.
        heads: Attention heads; Swin doubles them with the width.
        patch: Side of a patch in pixels; ConvNeXt and ResNet keep their own first stride.
        image: Side of the images in pixels that the position table is made for.
        bands: Channels of the input.
        seed: Of the initialisation; the global random state stays where it was.
    """
    sizes = {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "patch_size": patch,
        "image_size": image,
        "num_channels": bands,
    }
    path.mkdir(parents=True, exist_ok=True)
    for name, content in _saved(kind, tuple(sizes.items()), seed).items():
        (path / name).write_bytes(content)
    return path


def loaded_encoder(kind: str) -> VisionModel:
    """Return the model of `tiny_encoder_folder` as tailora reads it, read once for all tests."""
    return copy.deepcopy(_loaded(kind))


@cache
def _loaded(kind: str) -> VisionModel:
    with TemporaryDirectory() as folder:
        return load_backbone(str(tiny_encoder_folder(Path(folder), kind))).model


@cache
def _saved(kind: str, sizes: tuple[tuple[str, int], ...], seed: int) -> dict[str, bytes]:
    """Return the files of an encoder, which hundreds of tests ask for, by name."""
    with torch.random.fork_rng(devices=[]), _quiet(), TemporaryDirectory() as folder:
        torch.default_generator.manual_seed(seed)  # the CPU's alone: others are not forked
        _build(kind, dict(sizes)).save_pretrained(folder)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def _build(kind: str, sizes: dict[str, int]) -> PreTrainedModel:
    settings = {
        "dinov2": _dinov2,
        "dinov2-registers": lambda sizes: {**_dinov2(sizes), "num_register_tokens": REGISTERS},
        "dinov3": lambda sizes: {**sizes, "num_register_tokens": REGISTERS},
        "vit-mae": _with_decoder,
        "clip": _with_text,
        "siglip": _with_text,
        "swin": _swin,
        "convnextv2": _convolutional,
        "resnet": _convolutional,
    }.get(kind, dict)
    config = getattr(transformers, f"{KINDS[kind]}Config")(**settings(sizes))
    return getattr(transformers, f"{KINDS[kind]}Model")(config)


def _dinov2(sizes: dict[str, int]) -> dict[str, Any]:
    kept = {name: value for name, value in sizes.items() if name != "intermediate_size"}
    return {**kept, "mlp_ratio": 2}


def _with_decoder(sizes: dict[str, int]) -> dict[str, Any]:
    return {
        **sizes,
        "decoder_hidden_size": sizes["hidden_size"],
        "decoder_intermediate_size": sizes["intermediate_size"],
        "decoder_num_attention_heads": sizes["num_attention_heads"],
        "decoder_num_hidden_layers": 1,
    }


def _with_text(sizes: dict[str, int]) -> dict[str, Any]:
    vocabulary = {"vocab_size": 10, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = {name: value for name, value in sizes.items() if name.startswith(("hid", "int", "num_"))}
    del text["num_channels"]
    return {
        "vision_config": sizes,
        "text_config": {**text, **vocabulary, "max_position_embeddings": 8},
    }


def _swin(sizes: dict[str, int]) -> dict[str, Any]:
    stages, window = sizes["num_hidden_layers"], 2
    return {
        "embed_dim": sizes["hidden_size"],
        "depths": [1] * stages,
        "num_heads": [sizes["num_attention_heads"] * 2**stage for stage in range(stages)],
        "window_size": window,
        "mlp_ratio": 2.0,
        "patch_size": sizes["patch_size"],
        # a last stage smaller than its window would shrink the window for good
        "image_size": max(sizes["image_size"], sizes["patch_size"] * window * 2 ** (stages - 1)),
        "num_channels": sizes["num_channels"],
    }


def _convolutional(sizes: dict[str, int]) -> dict[str, Any]:
    stages = sizes["num_hidden_layers"]
    return {
        "embedding_size": sizes["hidden_size"],  # ResNet's
        "num_stages": stages,  # ConvNeXt's
        "hidden_sizes": [sizes["hidden_size"] * 2**stage for stage in range(stages)],
        "depths": [1] * stages,
        "num_channels": sizes["num_channels"],
    }


@contextmanager
def _quiet() -> Iterator[None]:
    level = transformers_logging.get_verbosity()
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if shown:
            transformers_logging.enable_progress_bar()
