"""SatMAE from made checkpoints with the authors' names, against the forward pass by hand."""

import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional

from tailora.adapters import find_targets
from tailora.backbones import load_backbone
from tailora.backbones.satmae import GROUPS, MEAN, STD
from tailora.errors import BackboneError
from tests.tiny_foundation import satmae_file, satmae_tensors

WIDTH = 320


def by_hand(state, pixels, groups):
    """The authors' forward pass with the fused projections of their checkpoint."""
    tokens = []
    for number, group in enumerate(groups):
        stem = f"patch_embed.{number}.proj" if len(groups) > 1 else "patch_embed.proj"
        weight, bias = state[f"{stem}.weight"], state[f"{stem}.bias"]
        patches = functional.unfold(
            pixels[:, list(group)], weight.shape[-1], stride=weight.shape[-1]
        )
        embedded = (weight.flatten(1) @ patches).transpose(1, 2) + bias
        place = state["pos_embed"][:, 1:]
        if len(groups) > 1:
            own = state["channel_embed"][:, number : number + 1].expand(-1, place.shape[1], -1)
            place = torch.cat([place, own], dim=-1)
        tokens.append(embedded + place)
    first = state["pos_embed"][:, :1]
    if len(groups) > 1:
        first = torch.cat([first, torch.zeros(1, 1, 256)], dim=-1)
    hidden = torch.cat([(state["cls_token"] + first).expand(len(pixels), -1, -1), *tokens], dim=1)

    def layer(name, rows):
        return rows @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name, rows):
        centred = rows - rows.mean(-1, keepdim=True)
        unit = centred / (rows.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return unit * state[f"{name}.weight"] + state[f"{name}.bias"]

    heads = WIDTH // 64
    for block in range(2):
        name = f"blocks.{block}"
        fused = layer(f"{name}.attn.qkv", norm(f"{name}.norm1", hidden))
        batch, count, _ = fused.shape
        query, key, value = fused.reshape(batch, count, 3, heads, 64).permute(2, 0, 3, 1, 4)
        shares = (query @ key.transpose(-2, -1) / 8).softmax(-1)
        mixed = (shares @ value).transpose(1, 2).reshape(batch, count, -1)
        hidden = hidden + layer(f"{name}.attn.proj", mixed)
        inner = functional.gelu(layer(f"{name}.mlp.fc1", norm(f"{name}.norm2", hidden)))
        hidden = hidden + layer(f"{name}.mlp.fc2", inner)
    return norm("norm", hidden)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_forward_pass_is_that_of_the_authors(grouped, tmp_path):
    state = satmae_tensors(grouped=grouped)
    loaded = load_backbone(str(satmae_file(tmp_path / "satmae.pth", state)))
    groups = GROUPS if grouped else ((0, 1, 2),)
    bands = sum(map(len, groups))
    standard = torch.randn(2, bands, 12, 12, generator=torch.Generator().manual_seed(0))
    pixels = standard
    if grouped:  # two standard deviations around the mean, in the steps of an 8-bit image
        share = (standard.double().numpy() + 2) / 4 * 255
        pixels = torch.from_numpy(np.clip(share, 0, 255).astype(np.uint8)).float() / 255
    with torch.no_grad():
        found = loaded.model(standard).last_hidden_state
    expected = by_hand(state, pixels, groups)
    assert found.shape == (2, 1 + 9 * len(groups), WIDTH)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


def test_the_grouped_kind_says_its_bands_its_units_and_its_statistics(tmp_path):
    loaded = load_backbone(str(satmae_file(tmp_path / "s.pth", satmae_tensors(grouped=True))))
    assert loaded.units == "reflectance"
    assert loaded.model.config.band_names[:4] == ("B02", "B03", "B04", "B05")
    assert len(loaded.mean) == len(MEAN) == len(STD) == 10
    assert loaded.mean[0] == pytest.approx(0.118438)
    # B08 and B8A in reflectance: (1762.60, 1972.62) of thirteen bands
    assert loaded.mean[6:8] == pytest.approx((0.17626, 0.197262))
    with pytest.raises(BackboneError, match=r"takes 10 bands \(B02, B03.*images have 13"):
        load_backbone(loaded.name, bands=13)


def test_queries_keys_and_values_are_adapted_apart_and_the_decoder_is_left_out(tmp_path):
    loaded = load_backbone(str(satmae_file(tmp_path / "s.pth", satmae_tensors(grouped=False))))
    assert find_targets(loaded.model) == [
        f"blocks.{block}.{name}"
        for block in range(2)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj")
    ]
    assert not [name for name in loaded.model.state_dict() if "decoder" in name or "mask" in name]


def test_positions_are_stretched_to_larger_images(tmp_path):
    loaded = load_backbone(str(satmae_file(tmp_path / "s.pth", satmae_tensors(grouped=True))))
    table = loaded.model._positions((6, 6))
    assert table.shape == (3, 36, WIDTH)
    grid = loaded.model.position.transpose(1, 2).reshape(3, WIDTH, 3, 3)
    expected = functional.interpolate(grid, size=(6, 6), mode="bicubic")
    torch.testing.assert_close(table, expected.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("wrap", ["model", "state_dict", None])
def test_tensors_are_found_wherever_training_scripts_put_them(wrap, tmp_path):
    state = satmae_tensors(grouped=False)
    content = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(content if wrap is None else {wrap: content}, tmp_path / "s.pth")
    plain = load_backbone(str(satmae_file(tmp_path / "plain.pth", state)))
    assert load_backbone(str(tmp_path / "s.pth")).sha256 == plain.sha256


def without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: without(s, "cls_token"), "is not a SatMAE"),
        (lambda s: without(s, "pos_embed"), "is not a SatMAE"),
        (lambda s: without(s, "blocks.1.mlp.fc2.bias"), r"1 missing \(blocks\.1\.fc2\.bias\)"),
        (lambda s: without(s, "norm.weight"), r"1 missing \(norm\.weight\)"),
        (lambda s: without(s, "norm.weight") | {"fc_norm.weight": torch.ones(WIDTH)}, "fc_norm"),
        (lambda s: s | {"blocks.1.extra.weight": torch.ones(3)}, "1 unexpected"),
        (lambda s: s | {"blocks.0.norm1.weight": torch.ones(7)}, "1 of another shape"),
        (lambda s: s | {"pos_embed": s["pos_embed"][:, :-1]}, "not a square"),
        (lambda _: {"layer.weight": torch.ones(2)}, "is not a SatMAE"),
        (lambda _: {}, "is not a SatMAE"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_told_what_is_wrong(spoil, message, grouped, tmp_path):
    file = satmae_file(tmp_path / "s.pth", spoil(satmae_tensors(grouped=grouped)))
    with pytest.raises(BackboneError, match=message):
        load_backbone(str(file))


def test_other_channel_groups_are_refused(tmp_path):
    state = satmae_tensors(grouped=True)
    state["patch_embed.2.proj.weight"] = torch.zeros(WIDTH, 3, 4, 4)
    with pytest.raises(BackboneError, match=r"groups of \[4, 4, 3\] bands"):
        load_backbone(str(satmae_file(tmp_path / "s.pth", state)))


class Evil:
    """A pickle that would call a function when opened."""

    def __reduce__(self):
        return (print, ("opened",))


@pytest.mark.parametrize("content", [{"model": Evil()}, Evil()])
def test_a_pickle_that_is_more_than_weights_is_never_run(content, tmp_path, capsys):
    torch.save(content, tmp_path / "s.pth")
    with pytest.raises(BackboneError, match="not a weights-only file"):
        load_backbone(str(tmp_path / "s.pth"))
    assert "opened" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b""), "not a weights-only file"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "not a weights-only file"),
        (
            lambda path: path.write_bytes(pickle.dumps([1, 2], protocol=2)),
            "not a weights-only file",
        ),
        (lambda path: torch.save([torch.ones(2)], path), "contains a list"),
        (lambda _: None, "there is no checkpoint"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(write, message, tmp_path):
    write(tmp_path / "s.pth")
    with pytest.raises(BackboneError, match=message):
        load_backbone(str(tmp_path / "s.pth"))
