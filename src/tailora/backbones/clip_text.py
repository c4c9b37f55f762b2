"""CLIP's other half: class names become a linear head on image features, with no training at all.

CLIP compares a projected image feature with the projected text of each class by their cosine. The
division by the image feature's own length is the same for every class, so the head that leaves it
out decides as CLIP does, on every image. Its probabilities are CLIP's for an image whose projected
feature is of typical length; give training features and that length is taken from them.

Reference: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
ICML 2021, section 3.1; averaging embeddings over several templates is theirs too.
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
_SPECIAL: Final = 4  # transformers makes up a tokenizer of so few words where there is none


def text_head(
    loaded: LoadedBackbone,
    names: Sequence[str],
    *,
    templates: Sequence[str] = TEMPLATES,
    features: NDArray[np.floating] | None = None,
) -> nn.Linear:
    """Make the zero-shot head of a CLIP model for some classes.

    Args:
        loaded: A CLIP image tower, from a folder or hub name that also holds text tower and
            tokenizer; its features are to be pooled as `"class"`.
        names: Class names, in index order.
        templates: Sentences with `{}` where the name goes; their embeddings are averaged.
        features: Image features (rows, width) whose typical length sets the temperature; None takes
            a length of 1.

    Returns:
        A frozen head (width to classes).

    Raises:
        ConfigError: No name, an empty one, or a template without `{}`.
        BackboneError: The encoder is no CLIP, or its text tower or tokenizer is absent.
    """
    if not names or not all(name.strip() for name in names):
        raise ConfigError("zero-shot from names needs a name for every class")
    if not templates or not all("{}" in template for template in templates):
        raise ConfigError(f"each template needs {{}} where the name goes, got {list(templates)}")
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
        f"{loaded.name!r} has no text tower to read class names with; give a whole CLIP model "
        "with its tokenizer, such as openai/clip-vit-base-patch32"
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
        raise BackboneError(f"{absent} (its tokenizer is another's, or absent)")
    return model.eval(), tokenizer


def _embed(model: Any, tokenizer: Any, name: str, templates: Sequence[str]) -> Tensor:
    """Average the unit embeddings of one name in all sentences, and make it a unit again."""
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
            f"CLIP projects features of {projection.shape[1]} numbers, got {features.shape}; use "
            "--set backbone.pooling=class"
        )
    rows = torch.from_numpy(np.array(features, dtype=np.float32))  # may be mapped from a file
    return float((rows @ projection.T).norm(dim=1).mean())
