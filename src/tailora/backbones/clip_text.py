"""CLIP's text encoder: class names become a linear head on image features, without training.

CLIP compares a projected image feature with the projected text of each class by cosine. Normalising
the image feature does not change the ranking of classes, so a head without it makes CLIP's decision
on every image. Its probabilities are CLIP's for an image whose projected feature has typical
length; pass training features to estimate that length.

Reference: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
ICML 2021, section 3.1, including averaging embeddings over several templates.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tailora.backbones.loaded import LoadedBackbone
from tailora.backbones.pretrained import quiet_loading
from tailora.errors import BackboneError, ConfigError

TEMPLATES: Final = ("a satellite photo of {}.", "an aerial image of {}.")
_SPECIAL: Final = 4  # transformers makes up a tokenizer with so few tokens if there is none


def text_head(
    loaded: LoadedBackbone,
    names: Sequence[str],
    *,
    templates: Sequence[str] = TEMPLATES,
    features: NDArray[np.floating] | None = None,
) -> nn.Linear:
    """Build the zero-shot head of a CLIP model for given classes.

    Args:
        loaded: A CLIP image encoder, from a folder or hub name that also has text encoder and
            tokenizer; its features must be pooled as `"class"`.
        names: Class names, in index order.
        templates: Sentences with `{}` in place of the name; their embeddings are averaged.
        features: Image features (rows, width) whose typical length sets the temperature; None uses
            length 1.

    Returns:
        A frozen head (width to classes).

    Raises:
        ConfigError: No name, an empty one, or a template without `{}`.
        BackboneError: The encoder is not CLIP, or its text encoder or tokenizer is missing.
    """
    if not names or not all(name.strip() for name in names):
        raise ConfigError("zero-shot from names needs a name for every class")
    if not templates or not all("{}" in template for template in templates):
        raise ConfigError(f"each template needs {{}} in place of the name, got {list(templates)}")
    model, tokenizer = _load_both(loaded)
    with torch.no_grad():
        texts = torch.stack([_embed(model, tokenizer, name, templates) for name in names])
        projection = model.visual_projection.weight
        weight = model.logit_scale.exp() * texts @ projection
        weight = weight / _typical_length(projection, features)
    with torch.device("meta"):
        head = nn.Linear(weight.shape[1], len(names))
    head.weight, head.bias = nn.Parameter(weight), nn.Parameter(torch.zeros(len(names)))
    return head.requires_grad_(requires_grad=False)


def _load_both(loaded: LoadedBackbone) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoTokenizer, CLIPModel

    local = loaded.source != "hub"
    absent = (
        f"{loaded.name!r} has no text encoder for class names; use a full CLIP model with its "
        "tokenizer, such as openai/clip-vit-base-patch32"
    )
    try:
        config = AutoConfig.from_pretrained(
            loaded.name, local_files_only=local, trust_remote_code=False
        )
        if config.model_type != "clip":
            raise BackboneError(absent)
        with quiet_loading(progress=not local), torch.random.fork_rng(devices=[]):
            both: Any = CLIPModel.from_pretrained(
                loaded.name,
                local_files_only=local,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        model, info = both
        tokenizer = AutoTokenizer.from_pretrained(
            loaded.name, local_files_only=local, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise BackboneError(f"{absent} ({str(error).splitlines()[0]})") from error
    if missing := [key for key in info["missing_keys"] if "position_ids" not in key]:
        raise BackboneError(f"{absent} ({len(missing)} weights are missing, e.g. {missing[0]})")
    if not _SPECIAL < len(tokenizer) <= model.config.text_config.vocab_size:
        raise BackboneError(f"{absent} (its tokenizer is missing or belongs to another model)")
    return model.eval(), tokenizer


def _embed(model: Any, tokenizer: Any, name: str, templates: Sequence[str]) -> Tensor:
    """Average the unit embeddings of one name over all templates, and normalise the result."""
    sentences = [template.replace("{}", name) for template in templates]
    tokens = tokenizer(
        sentences, padding=True, truncation=True, return_tensors="pt",
        max_length=model.config.text_config.max_position_embeddings,
    )  # fmt: skip
    pooled = model.text_model(
        input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
    ).pooler_output
    units = functional.normalize(model.text_projection(pooled), dim=1)
    return functional.normalize(units.mean(dim=0), dim=0)


def _typical_length(projection: Tensor, features: NDArray[np.floating] | None) -> float:
    if features is None:
        return 1.0
    if features.ndim != 2 or features.shape[1] != projection.shape[1]:
        raise BackboneError(
            f"CLIP projects features of size {projection.shape[1]}, got {features.shape}; use "
            "--set backbone.pooling=class"
        )
    rows = torch.from_numpy(np.array(features, dtype=np.float32))  # may be memory-mapped
    return float((rows @ projection.T).norm(dim=1).mean())
