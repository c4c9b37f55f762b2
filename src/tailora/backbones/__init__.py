"""Encoders: found by name, loaded strictly, with one interface.

`load_backbone` loads the weights; `Encoder` turns images into features; `ModuleEncoder` adapts any
other module.
"""

from typing import TYPE_CHECKING

from tailora.source import import_when_asked

if TYPE_CHECKING:
    from tailora.backbones.encoder import (
        AnyEncoder,
        Encoder,
        FeatureMaps,
        ModuleEncoder,
        Pooling,
        Precision,
    )
    from tailora.backbones.layout import has_class_token
    from tailora.backbones.load import load_backbone
    from tailora.backbones.loaded import LoadedBackbone

__all__ = [
    "AnyEncoder",
    "Encoder",
    "FeatureMaps",
    "LoadedBackbone",
    "ModuleEncoder",
    "Pooling",
    "Precision",
    "has_class_token",
    "load_backbone",
]

import_when_asked(__name__)
