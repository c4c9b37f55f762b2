"""Tiny stand-ins for foundation models, in the very files and names that their authors write."""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WORDS = ("a", "satellite", "photo", "of", "an", "aerial", "image", "ship", "forest", "water", ".")


def tokenizer_into(folder: Path) -> CLIPTokenizer:
    """Save a CLIP tokenizer that knows a dozen words."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *[f"{word}</w>" for word in WORDS]]
    letters = sorted({letter for word in WORDS for letter in word})
    vocabulary += [piece for letter in letters for piece in (letter, f"{letter}</w>")]
    names = {name: number for number, name in enumerate(dict.fromkeys(vocabulary))}
    (folder / "vocab.json").write_text(json.dumps(names), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    tokenizer = CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    tokenizer.save_pretrained(folder)
    return tokenizer


def clip_folder(folder: Path, *, seed: int = 0) -> Path:
    """Save a whole CLIP model, both towers and tokenizer."""
    words = len(tokenizer_into(folder))
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = CLIPConfig(
        vision_config={**sizes, "num_attention_heads": 2, "patch_size": 7, "image_size": 14},
        text_config={
            **sizes, "hidden_size": 12, "num_attention_heads": 2, "vocab_size": words,
            "max_position_embeddings": 40, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
        },
        projection_dim=10,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        CLIPModel(config).save_pretrained(folder)
    return folder


def pipeline_folder(folder: Path, *, prediction: str = "epsilon", seed: int = 0) -> Path:
    """Save a Stable Diffusion whose U-Net and autoencoder halve an image once each."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    words = len(tokenizer_into(folder / "tokenizer"))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        text = CLIPTextConfig(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
            vocab_size=words, max_position_embeddings=8, bos_token_id=0, eos_token_id=1,
            pad_token_id=1,
        )  # fmt: skip
        CLIPTextModel(text).save_pretrained(folder / "text_encoder")
        AutoencoderKL(
            block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, sample_size=16,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ).save_pretrained(folder / "vae")  # fmt: skip
        UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
            cross_attention_dim=8, attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ).save_pretrained(folder / "unet")  # fmt: skip
    DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
        prediction_type=prediction, set_alpha_to_one=False, steps_offset=1,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0"}
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    return folder


class _TimmAttention(nn.Module):
    """Only the names of a timm attention's layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)


def satmae_tensors(
    *, grouped: bool, width: int = 320, depth: int = 2, patch: int = 4, side: int = 3, seed: int = 0
) -> dict[str, Tensor]:
    """Tensors as in the authors' pre-training checkpoints, with a piece of the decoder."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        blocks = nn.ModuleList()
        for _ in range(depth):
            block = nn.Module()
            block.norm1, block.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            block.attn = _TimmAttention(width)
            block.mlp = nn.Module()
            block.mlp.fc1, block.mlp.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
            blocks.append(block)
        sizes = (4, 4, 2) if grouped else (3,)
        embeds = [nn.Conv2d(bands, width, patch, stride=patch) for bands in sizes]
        own = 256 if grouped else 0
        tensors = {
            "cls_token": torch.randn(1, 1, width),
            "pos_embed": torch.randn(1, side * side + 1, width - own),
            "mask_token": torch.randn(1, 1, 8),
            "decoder_embed.weight": torch.randn(8, width),
            "decoder_blocks.0.norm1.weight": torch.ones(8),
            "norm.weight": torch.rand(width) + 0.5,
            "norm.bias": torch.randn(width),
            **{f"blocks.{name}": tensor for name, tensor in blocks.state_dict().items()},
        }
        if grouped:
            tensors["channel_embed"] = torch.randn(1, 3, own)
    for number, embed in enumerate(embeds):
        stem = f"patch_embed.{number}.proj" if grouped else "patch_embed.proj"
        tensors |= {f"{stem}.weight": embed.weight.data, f"{stem}.bias": embed.bias.data}
    return tensors


def satmae_file(path: Path, tensors: dict[str, Tensor]) -> Path:
    """Save tensors as the authors' training script does, with its settings beside them."""
    torch.save({"model": tensors, "epoch": 199, "args": argparse.Namespace(lr=1e-3)}, path)
    return path
