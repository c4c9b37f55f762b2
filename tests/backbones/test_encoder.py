import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    Aimv2VisionConfig,
    Aimv2VisionModel,
    AutoModel,
    BertConfig,
    BertModel,
    ViTMAEConfig,
    ViTMAEModel,
)

from tailora.backbones import Encoder, ModuleEncoder
from tailora.backbones.encoder import PIXELS
from tailora.backbones.layout import spread_layers
from tailora.errors import BackboneError, ConfigError
from tests.tiny import KINDS, REGISTERS, loaded_encoder, tiny_encoder_folder

MEAN, STD = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
WITH_CLASS_TOKEN = ["dinov2", "dinov2-registers", "dinov3", "vit", "vit-mae", "clip"]
WITHOUT = ["siglip", "swin", "convnextv2", "resnet"]
PREFIX = {"dinov2-registers": 1 + REGISTERS, "dinov3": 1 + REGISTERS, "siglip": 0, "swin": 0}


def make(kind="dinov2", pooling="mean"):
    return Encoder(loaded_encoder(kind), pooling=pooling, mean=MEAN, std=STD)


def raw_outputs(encoder, images):
    """Call the model as its own documentation does, on values normalised band by band."""
    pixels = torch.empty(images.shape)
    for band in range(3):
        pixels[:, band] = (images[:, band].double() / 255 - MEAN[band]) / STD[band]
    model = encoder.backbone
    takes_flag = type(model).__name__.startswith(("ViT", "CLIP", "Siglip", "Swin"))
    with torch.no_grad():
        return model(pixels, **({"interpolate_pos_encoding": True} if takes_flag else {}))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_finite_float32_features_at_two_sizes_and_the_same_ones_twice(
    kind, images
):
    encoder = make(kind)
    for size in (28, 56):
        encoder.check_image_size(size)
        batch = images.repeat(1, 1, size // 28, size // 28)
        first, second = encoder(batch), encoder(batch)
        assert first.shape == (2, encoder.features)
        assert first.dtype == torch.float32
        assert first.isfinite().all()
        assert torch.equal(first, second)
        assert not torch.allclose(first[0], first[1])


@pytest.mark.parametrize("kind", ["dinov2", "dinov2-registers", "dinov3", "vit", "siglip", "swin"])
def test_the_mean_is_over_patch_tokens_only(kind, images):
    encoder = make(kind)
    tokens = raw_outputs(encoder, images).last_hidden_state[:, PREFIX.get(kind, 1) :]
    by_hand = sum(tokens[:, i] for i in range(tokens.shape[1])) / tokens.shape[1]
    torch.testing.assert_close(encoder(images), by_hand, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["dinov2", "dinov2-registers", "dinov3", "vit"])
def test_the_class_token_is_the_first_one_of_the_last_hidden_state(kind, images):
    encoder = make(kind, "class")
    by_hand = raw_outputs(encoder, images).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder(images), by_hand, atol=1e-5, rtol=1e-5)


def test_clip_gives_its_class_token_after_its_last_norm(images):
    encoder = make("clip", "class")
    norm = encoder.backbone.post_layernorm
    nn.init.constant_(norm.weight, 2.0)  # a fresh norm would hardly show
    token = raw_outputs(encoder, images).last_hidden_state[:, 0]
    centred = token - token.mean(dim=1, keepdim=True)
    by_hand = 2 * centred / (centred.square().mean(dim=1, keepdim=True) + norm.eps).sqrt()
    torch.testing.assert_close(encoder(images), by_hand + norm.bias, atol=1e-5, rtol=1e-5)


def test_a_learned_pooler_is_left_out(tmp_path, images):
    """A bare ViTModel has one more dense layer, which pre-training often never touched."""
    folder = tiny_encoder_folder(tmp_path / "vit", "vit")
    model = AutoModel.from_pretrained(folder).eval()
    assert model.pooler is not None
    encoder = Encoder(model, pooling="class", mean=MEAN, std=STD)
    by_hand = raw_outputs(encoder, images).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder(images), by_hand, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["convnextv2", "resnet"])
def test_a_feature_map_is_averaged_over_its_places(kind, images):
    encoder = make(kind)
    feature_map = raw_outputs(encoder, images).last_hidden_state
    height, width = feature_map.shape[2:]
    places = [feature_map[:, :, y, x] for y in range(height) for x in range(width)]
    assert len(places) > 1
    by_hand = sum(places) / len(places)
    torch.testing.assert_close(encoder(images), by_hand, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", WITH_CLASS_TOKEN)
def test_both_is_the_class_token_beside_the_mean(kind, images):
    parts = [make(kind, pooling)(images) for pooling in ("class", "mean")]
    encoder = make(kind, "both")
    assert encoder.features == sum(part.shape[1] for part in parts)
    assert torch.equal(encoder(images), torch.cat(parts, dim=1))


@pytest.mark.parametrize("kind", WITHOUT)
@pytest.mark.parametrize("pooling", ["class", "both"])
def test_a_class_token_that_is_not_there_cannot_be_pooled(kind, pooling):
    with pytest.raises(BackboneError, match=r"has no class token.*use 'mean'"):
        make(kind, pooling)


def test_an_unknown_pooling_is_told_the_nearest_name():
    with pytest.raises(ConfigError, match="unknown pooling 'men'; did you mean 'mean'"):
        make(pooling="men")


def test_masked_autoencoders_see_every_patch_in_its_place(images):
    """Were patches dropped or shuffled, the features would not follow from the hidden states."""
    encoder = make("vit-mae")
    model, pixels = encoder.backbone, (images[:1] / 255 - 0.5) / 0.2
    order = torch.arange(16.0)[None]
    with torch.no_grad():
        called = encoder._call(model, pixels)
        embedded, mask, restore = model.embeddings(pixels, order, interpolate_pos_encoding=True)
    assert called.last_hidden_state.shape[1] == embedded.shape[1] == 17
    assert mask.sum() == 0
    assert restore.tolist() == [list(range(16))]
    assert called.ids_restore.tolist() == [list(range(16))]


def test_a_model_that_hides_patches_is_refused():
    with torch.device("meta"):
        model = ViTMAEModel(ViTMAEConfig(hidden_size=12, num_hidden_layers=1))
    with pytest.raises(BackboneError, match=r"masks a share of 0\.75.*mask_ratio = 0"):
        Encoder(model, pooling="mean", mean=MEAN, std=STD)


def test_stored_units_are_normalised_in_their_own_units():
    encoder = make()
    raw = torch.arange(2 * 3 * 14 * 14).reshape(2, 3, 14, 14).to(torch.uint16)
    stored = Encoder(encoder.backbone, pooling="mean", mean=(300.0,) * 3, std=(100.0,) * 3, scale=1)
    with torch.no_grad():
        tokens = encoder.backbone((raw.double() - 300).float() / 100).last_hidden_state
    torch.testing.assert_close(stored(raw), tokens[:, 1:].mean(dim=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["dinov2", "resnet", "swin", "convnextv2", "vit-mae"])
def test_bfloat16_weights_get_bfloat16_pixels_and_give_float32_features(kind, images):
    encoder = make(kind)
    exact = encoder(images)
    encoder.backbone.bfloat16()
    assert encoder(images).dtype == torch.float32
    torch.testing.assert_close(encoder(images), exact, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("kind", ["dinov2", "vit", "vit-mae", "clip", "swin", "convnextv2"])
def test_gradients_reach_the_weights_and_the_images(kind, images):
    encoder = make(kind)
    batch = images.float().requires_grad_()
    encoder(batch).square().sum().backward()
    assert batch.grad.abs().sum() > 0
    first = next(encoder.backbone.parameters())
    assert first.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["dinov2", "vit", "vit-mae", "dinov3", "swin"])
def test_an_adapter_can_be_put_into_the_backbone(kind, images):
    encoder = make(kind)
    plain = encoder(images)
    with torch.random.fork_rng(devices=[]):
        adapted = get_peft_model(encoder.backbone, LoraConfig(r=2, target_modules="all-linear"))
    encoder.backbone = adapted
    encoder.check_image_size(56)
    torch.testing.assert_close(encoder.eval()(images), plain)  # B = 0: nothing added yet
    encoder(images).square().sum().backward()
    with_gradient = {n for n, p in encoder.named_parameters() if p.grad is not None}
    assert with_gradient
    assert all("lora_" in name for name in with_gradient)


def test_a_backbone_that_is_wrapped_already_is_taken_as_it_is(images):
    encoder = make("vit")
    with torch.random.fork_rng(devices=[]):
        adapted = get_peft_model(encoder.backbone, LoraConfig(r=2, target_modules="all-linear"))
    wrapped = Encoder(adapted.eval(), pooling="both", mean=MEAN, std=STD)
    assert wrapped(images).shape == (2, 64)


def test_building_and_checking_leave_the_model_as_it_was(images):
    """Swin's windows shrink for good when an image is too small; only a copy may see that."""
    encoder = make("swin")
    before = encoder(images)
    encoder.backbone.train()
    with pytest.raises(BackboneError, match="for images of 28 px does not accept 14 px"):
        encoder.check_image_size(14)
    assert encoder.backbone.training
    assert torch.equal(encoder.eval()(images), before)


def test_a_model_of_one_fixed_size_says_so_before_any_image_is_read():
    config = Aimv2VisionConfig(
        hidden_size=12, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2
    )
    with torch.device("meta"):
        model = Aimv2VisionModel(config)
    encoder = Encoder(model, pooling="mean", mean=MEAN, std=STD)
    encoder.check_image_size(224)
    with pytest.raises(BackboneError, match=r"does not accept 112 px.*resize the images to 224 px"):
        encoder.check_image_size(112)


@settings(deadline=None, max_examples=50)
@given(size=st.integers(1, 300), patch=st.integers(2, 32))
def test_a_size_that_patches_do_not_fill_is_told_the_two_nearest(size, patch):
    with torch.device("meta"):
        config = Aimv2VisionConfig(
            hidden_size=4,
            intermediate_size=4,
            num_hidden_layers=0,
            num_attention_heads=1,
            patch_size=patch,
            image_size=patch,
        )
        encoder = Encoder(Aimv2VisionModel(config), pooling="mean", mean=MEAN, std=STD)
    fitting = [n for n in range(patch, size + 2 * patch + 1) if n % patch == 0]
    nearest = sorted(sorted(fitting, key=lambda n: abs(n - size))[:2])
    if size % patch:
        with pytest.raises(BackboneError) as caught:
            encoder.check_image_size(size)
        got = [int(n) for n in re.findall(r"to (\d+) or (\d+) px", str(caught.value))[0]]
        assert got == nearest


@pytest.mark.parametrize("bands", [1, 4])
def test_other_bands_are_told_how_many_to_select(bands):
    model = make().backbone
    with pytest.raises(BackboneError, match=f"takes 3 bands and the images have {bands}; select 3"):
        Encoder(model, pooling="mean", mean=[0.5] * bands, std=[0.5] * bands)


def test_one_band_is_not_silently_spread_over_three(images):
    with pytest.raises(BackboneError, match=r"takes 3 bands, got images of shape \(2, 1, 28, 28\)"):
        make()(images[:, :1])


@pytest.mark.parametrize(
    ("mean", "std", "scale"),
    [((0.5,) * 3, (0.5,) * 2, 255), ((0.5,) * 3, (0.5, 0, 0.5), 255), ((0.5,) * 3, (1,) * 3, 0)],
)
def test_a_normalisation_that_cannot_be_computed_is_refused(mean, std, scale):
    model = make().backbone
    with pytest.raises(BackboneError, match="one positive std per band"):
        Encoder(model, pooling="mean", mean=mean, std=std, scale=scale)


def test_the_state_dict_holds_the_backbone_alone():
    encoder = make()
    assert all(name.startswith("backbone.") for name in encoder.state_dict())


def test_what_is_no_vision_model_is_sent_to_the_module_encoder():
    with torch.device("meta"):
        text = BertModel(BertConfig(hidden_size=12, num_hidden_layers=1, vocab_size=5))
    for module in (nn.Linear(2, 2, device="meta"), text):
        with pytest.raises(BackboneError, match=r"not a transformers vision model.*ModuleEncoder"):
            Encoder(module, pooling="mean", mean=MEAN, std=STD)


def test_a_plain_module_becomes_an_encoder():
    encoder = ModuleEncoder(nn.Flatten(), features=12)
    batch = torch.arange(24, dtype=torch.float64).reshape(2, 3, 2, 2)
    assert torch.equal(encoder(batch), torch.arange(24, dtype=torch.float32).reshape(2, 12))
    assert isinstance(encoder.backbone, nn.Flatten)


@pytest.mark.parametrize("module", [nn.Identity(), nn.Flatten(start_dim=2)])
def test_a_plain_module_that_returns_something_else_is_told_what_was_expected(module):
    with pytest.raises(BackboneError, match=r"returned .* where \(batch, 12\) was expected"):
        ModuleEncoder(module, features=12)(torch.zeros(2, 3, 2, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "both"])
def test_features_of_patches_have_the_image_s_feature_for_their_mean(kind, pooling, images):
    if pooling == "both" and not any(kind.startswith(known) for known in WITH_CLASS_TOKEN):
        pytest.skip("has no class token")
    encoder = make(kind, pooling)
    for size in (28, 56):
        batch = images.repeat(1, 1, size // 28, size // 28)
        patches = encoder.patch_features(batch)
        side = encoder.patches_a_side(size)
        assert patches.shape == (2, side, side, encoder.features)
        torch.testing.assert_close(patches.mean(dim=(1, 2)), encoder(batch), atol=1e-5, rtol=1e-5)


def test_patches_lie_where_they_are_in_the_image(images):
    """What is changed in one corner of the image changes the patch there most."""
    encoder = make("vit")
    changed = images.clone()
    changed[:, :, :7, 21:] = 255 - changed[:, :, :7, 21:]
    moved = (encoder.patch_features(changed) - encoder.patch_features(images)).norm(dim=-1)
    assert (moved.flatten(1).argmax(dim=1) == 3).all()


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_pixels_beside_tokens_are_the_image_again_at_eight_to_a_token(kind, images):
    """A ramp stays one through interpolation, at the centres of finer or coarser pixels."""
    plain, size = make(kind), 224
    encoder = plain.with_pixels()
    batch = images.repeat(1, 1, size // 28, size // 28).float()
    batch[:, 1] = torch.arange(size).mul(1.1)[None, :, None]
    patches, tokens = encoder.patch_features(batch), plain.patch_features(batch)
    assert encoder.features == plain.features + 3 * PIXELS**2
    torch.testing.assert_close(patches[..., : plain.features], tokens)
    torch.testing.assert_close(patches.mean(dim=(1, 2)), encoder(batch), atol=1e-5, rtol=1e-5)
    folded = patches[..., plain.features :].movedim(-1, 1)
    found = torch.nn.functional.pixel_shuffle(folded, PIXELS)
    rows = found.shape[2]
    assert rows == PIXELS * plain.patches_a_side(size)
    at = (torch.arange(rows) + 0.5) * size / rows - 0.5
    ramp = (1.1 * at / 255 - MEAN[1]) / STD[1]
    inner = slice(rows // 8, -rows // 8)
    torch.testing.assert_close(
        found[:, 1, inner], ramp[inner, None].expand(2, -1, rows), atol=1e-3, rtol=0
    )


def test_the_class_token_alone_gives_no_features_of_patches(images):
    with pytest.raises(BackboneError, match=r"does not use the patches.*pooling=mean or both"):
        make("vit", "class").patch_features(images)


@pytest.mark.parametrize("kind", KINDS)
def test_token_maps_have_the_pooled_feature_for_their_mean(kind, images):
    encoder = make(kind)
    with torch.inference_mode():
        maps = encoder.maps(images, layers=(1, -1))
        pooled = encoder(images)
    torch.testing.assert_close(maps.pooled, pooled)
    torch.testing.assert_close(maps.tokens[-1].mean(dim=(2, 3)), pooled, atol=1e-5, rtol=1e-5)
    for tokens, stride in zip(maps.tokens, maps.strides, strict=True):
        assert tokens.shape[2] == tokens.shape[3]
        assert stride * tokens.shape[3] == images.shape[3]


def test_a_layer_is_what_the_model_itself_gives_out(images):
    encoder = make("vit", "class")
    with torch.inference_mode():
        states = encoder.backbone(
            pixel_values=encoder.normalise(images), output_hidden_states=True,
            interpolate_pos_encoding=True,
        ).hidden_states  # fmt: skip
        maps = encoder.maps(images, layers=(0, -2))
    assert maps.strides == (7.0, 7.0)
    for found, state in zip(maps.tokens, (states[0], states[-2]), strict=True):
        expected = state[:, 1:].reshape(len(images), 4, 4, -1)  # rows of four patches, top first
        torch.testing.assert_close(found.permute(0, 2, 3, 1), expected)


@pytest.mark.parametrize("layer", [9, -9])
def test_a_layer_that_is_not_there_is_refused(layer, images):
    with pytest.raises(BackboneError, match=rf"layer {layer} .* gives out 0 to 2, and -1"):
        make("vit").maps(images, layers=(layer,))


@pytest.mark.parametrize("kind", KINDS)
def test_layers_stand_side_by_side_in_a_feature(kind, images):
    """Means of the maps of each layer, and of the last what a feature always was."""
    model = loaded_encoder(kind)
    plain = Encoder(model, pooling="mean", mean=MEAN, std=STD)
    wide = Encoder(model, pooling="mean", mean=MEAN, std=STD, layers=(1, -1))
    with torch.inference_mode():
        maps = plain.maps(images, layers=(1, -1)).tokens
        found = wide(images)
    expected = torch.cat([tokens.mean(dim=(2, 3)) for tokens in maps], dim=1)
    assert found.shape == (len(images), wide.features)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, -plain.features :], plain(images), atol=1e-5, rtol=1e-5)


def test_class_tokens_of_layers_come_with_their_patches(images):
    model = loaded_encoder("vit")
    encoder = Encoder(model, pooling="both", mean=MEAN, std=STD, layers=(0, 1))
    with torch.inference_mode():
        states = encoder.backbone(
            pixel_values=encoder.normalise(images), output_hidden_states=True,
            interpolate_pos_encoding=True,
        ).hidden_states  # fmt: skip
        found, patches = encoder(images), encoder.patch_features(images)
    expected = [part for s in states[:2] for part in (s[:, 0], s[:, 1:].mean(dim=1))]
    torch.testing.assert_close(found, torch.cat(expected, dim=1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(patches.mean(dim=(1, 2)), found, atol=1e-5, rtol=1e-5)


def test_an_encoder_refuses_layers_it_has_not():
    model = loaded_encoder("vit")
    with pytest.raises(BackboneError, match=r"layer 7 .* gives out 0 to 2"):
        Encoder(model, pooling="mean", mean=MEAN, std=STD, layers=(7,))


def test_spread_layers_are_those_at_half_and_three_quarters_and_the_output():
    config = ViTMAEConfig(
        hidden_size=8, num_hidden_layers=8, num_attention_heads=2, intermediate_size=8,
        image_size=28, patch_size=14, mask_ratio=0.0,
    )  # fmt: skip
    with torch.random.fork_rng():
        model = ViTMAEModel(config)
    assert spread_layers(model) == [4, 6, -1]
    for kind in ("dinov2", "resnet", "swin", "convnextv2"):  # too few layers, or a pyramid
        assert spread_layers(loaded_encoder(kind)) == []
