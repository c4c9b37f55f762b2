"""Maps of encoders with stages: which they are, and that folding keeps every bit."""

import numpy as np
import pytest
import torch

from tailora.backbones import Encoder, load_backbone
from tailora.backbones.stages import (
    Stage,
    fold_stages,
    folded_width,
    last_stride,
    unfold_stages,
    usual_stage,
)
from tests.tiny import tiny_encoder_folder


def encoder_of(tmp_path, kind, **sizes):
    model = load_backbone(str(tiny_encoder_folder(tmp_path / kind, kind, **sizes))).model
    return Encoder(model.eval(), pooling="mean", mean=[0.5] * 3, std=[0.5] * 3)


@pytest.mark.parametrize(
    ("kind", "size", "strides", "widths"),
    [
        ("resnet", 64, [4, 8, 16, 32], [8, 16, 32, 64]),
        ("convnextv2", 64, [4, 8, 16, 32], [8, 16, 32, 64]),
        ("swin", 112, [14, 28, 56], [16, 32, 64]),  # patches of 7 px, merged at each stage's end
        ("vit", 56, [], []),
    ],
)
def test_stages_are_the_last_maps_of_each_size(tmp_path, kind, size, strides, widths):
    encoder = encoder_of(tmp_path, kind, hidden=8, layers=4, patch=7, image=14)
    stages = encoder.stages(size)
    assert [size / stage.side for stage in stages] == strides
    assert [stage.width for stage in stages] == widths
    images = torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, plain = encoder.staged_features(images), encoder.patch_features(images)
        assert torch.equal(found[..., : encoder.features], plain)
        if not stages:
            assert found.shape == plain.shape
            return
        layers = [stage.layer for stage in stages]
        maps = encoder.maps(images, layers).tokens
    assert found.shape[-1] - encoder.features == folded_width(stages, plain.shape[1:3])
    for one, expected in zip(
        unfold_stages(found[..., encoder.features :], stages), maps, strict=True
    ):
        assert torch.equal(one, expected)
    assert layers[-1] == -1
    assert last_stride(stages, size) == strides[-1]


@pytest.mark.parametrize("rows", [1, 4, 7, 9])
def test_maps_of_any_size_are_folded_and_come_back(rows):
    sides = [17, 8, 4, 3]
    draw = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 2 + k, side, side, generator=draw) for k, side in enumerate(sides)]
    stages = [Stage(k, 2 + k, side) for k, side in enumerate(sides)]
    cells = torch.cat(fold_stages(maps, rows), dim=-1)
    assert cells.shape == (2, rows, rows, folded_width(stages, (rows, rows)))
    for one, again in zip(maps, unfold_stages(cells, stages), strict=True):
        assert torch.equal(one, again)
    # a cell of the grid holds the cells that lie under it
    if rows == 4:
        own = cells[0, 1, 2, : 2 * 25].reshape(2, 5, 5)
        assert torch.equal(own[:, :, :5], maps[0][0, :, 5:10, 10:15])


def test_objects_are_read_from_the_stage_of_about_sixteen_pixels():
    strides = {4: 16, 8: 8, 16: 4, 32: 2}
    stages = [Stage(k, 1, side) for k, side in enumerate(strides.values())]
    assert usual_stage(stages, 64).side == 4
    assert usual_stage(stages[:2], 64).side == 8
    assert np.isclose(last_stride(stages[1:], 64), 32)
