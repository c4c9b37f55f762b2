"""EfficientNet-b4 trained on Sentinel-2 and Landsat: multispectral weights that install offline.

The package ukis-csmask ships U-Nets that detect clouds and cloud shadows, as ONNX files. This
extracts the encoder of one; it was trained on clouds over many surfaces, not on land-cover classes.

Reference: Tan and Le, "EfficientNet", ICML 2019; the package by the German Aerospace Center.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EfficientNetConfig, EfficientNetModel
from transformers.modeling_outputs import BaseModelOutput

from tailora.backbones.foundation import FoundationConfig, FoundationModel, Units
from tailora.backbones.names import CLOUD_NAME
from tailora.errors import BackboneError, ConfigError, unknown_name

CLOUD_INSTALL: Final = "pip install --no-deps ukis-csmask==1.0.0"
CLOUD_LICENSE: Final = "package ukis-csmask: Apache-2.0"
OPTIONS: Final[dict[str, tuple[Any, ...]]] = {"bands": (6, 4), "level": ("l1c", "l2a")}
_B4: Final[dict[str, Any]] = {
    "width_coefficient": 1.4,
    "depth_coefficient": 1.8,
    "hidden_dim": 1792,
    "image_size": 380,
    # the authors' 380 px halve to an odd 95: padded symmetrically
    "depthwise_padding": [6],
}
_STRIDE: Final = 32
_PREFIX: Final = "model.encoder."
# segmentation-models-pytorch's layer names to those of transformers
_STEM: Final = {"_conv_stem": "embeddings.convolution", "_bn0": "embeddings.batchnorm"}
_BLOCK: Final = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_se_reduce": "squeeze_excite.reduce",
    "_se_expand": "squeeze_excite.expand",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}


class CloudEfficientNet(FoundationModel):
    """The convolutions of an EfficientNet without its last one, which segmentation does not use.

    Args:
        net: A transformers `EfficientNetModel`; its last convolution is removed.
        band_names: Names of its bands, in order.
    """

    units: ClassVar[Units] = "reflectance"

    def __init__(self, net: EfficientNetModel, band_names: tuple[str, ...]) -> None:
        super().__init__(
            FoundationConfig(
                model_type="efficientnet",
                num_channels=net.config.num_channels,
                patch_size=_STRIDE,
                image_size=256,
                band_names=band_names,
            )
        )
        self.embeddings = net.embeddings
        self.blocks: nn.ModuleList = net.encoder.blocks

    def forward(self, pixel_values: Tensor) -> BaseModelOutput:
        """Return the last feature map (batch, channels, height / 32, width / 32)."""
        hidden = self.embeddings(pixel_values)
        for block in self.blocks:
            hidden = block(hidden)
        return BaseModelOutput(last_hidden_state=hidden)


def load_cloud_efficientnet(
    options: dict[str, Any],
) -> tuple[CloudEfficientNet, tuple[float, ...], tuple[float, ...]]:
    """Extract the encoder from the packaged file.

    Args:
        options: `bands`: 6 (blue, green, red, near and two short-wave infrared) or 4 (without the
            last two). `level`: `"l1c"` (top of atmosphere) or `"l2a"` (surface).

    Returns:
        The encoder, and the mean and standard deviation of its training bands as reflectance.

    Raises:
        ConfigError: An unknown option.
        BackboneError: The package or onnx is missing, or the file has other content.
    """
    file = _find_file(_check_options(options))
    facts = json.loads(file.with_suffix(".json").read_text("utf-8"))["data"]["dataset_statistics"]
    names = tuple(str(name) for name in facts["band_names"])
    tensors = encoder_tensors(_read_constants(file))
    return build(tensors, names, settings=_B4), tuple(facts["img"][0]), tuple(facts["img"][1])


def encoder_tensors(constants: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Extract the encoder's weights from the U-Net's, with their transformers names."""
    found: dict[str, Tensor] = {}
    for name, value in constants.items():
        if not name.startswith(_PREFIX):
            continue
        layer, _, part = name.removeprefix(_PREFIX).rpartition(".")
        if layer.startswith("_blocks."):
            _, number, inner = layer.split(".")
            found[f"blocks.{number}.{_BLOCK[inner]}.{part}"] = _tensor(value)
        elif layer in _STEM:
            found[f"{_STEM[layer]}.{part}"] = _tensor(value)
    return found


def build(
    tensors: dict[str, Tensor], band_names: tuple[str, ...], *, settings: dict[str, Any]
) -> CloudEfficientNet:
    """Build the model and load the weights strictly.

    Raises:
        BackboneError: A tensor is missing, unexpected or of another shape.
    """
    with torch.random.fork_rng(devices=[]):
        net = EfficientNetModel(EfficientNetConfig(num_channels=len(band_names), **settings))
    model = CloudEfficientNet(net, band_names)
    counters = {
        name: t for name, t in model.state_dict().items() if name.endswith("batches_tracked")
    }
    try:
        model.load_state_dict(counters | tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(
            f"the file of ukis-csmask contains another encoder ({reason}); install the known "
            f"version: {CLOUD_INSTALL}"
        ) from error
    return model.eval()


def _check_options(options: dict[str, Any]) -> dict[str, Any]:
    for name, value in options.items():
        if name not in OPTIONS:
            raise unknown_name(f"option of {CLOUD_NAME}", name, OPTIONS)
        if value not in OPTIONS[name]:
            known = " or ".join(map(repr, OPTIONS[name]))
            raise ConfigError(f"backbone.options: {name} must be {known}, got {value!r}")
    return {name: values[0] for name, values in OPTIONS.items()} | options


def _find_file(chosen: dict[str, Any]) -> Path:
    """Find the file without importing the package, which needs an ONNX runtime."""
    spec = importlib.util.find_spec("ukis_csmask")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder) / f"model_{chosen['bands']}b_{chosen['level']}.onnx"
        if file.is_file():
            return file
    raise BackboneError(f"{CLOUD_NAME!r} is not installed; {CLOUD_INSTALL}")


def _read_constants(file: Path) -> dict[str, np.ndarray]:
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise BackboneError(
            f"{CLOUD_NAME!r} is an ONNX file, but onnx is not installed; pip install "
            '"tailora[packaged]"'
        ) from error
    graph = onnx.load(file).graph
    return {item.name: numpy_helper.to_array(item) for item in graph.initializer}


def _tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(value))
