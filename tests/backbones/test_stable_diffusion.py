"""Stable Diffusion: features against diffusers' own forward pass, the draws, the denoising loss."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tailora.adapters import AdapterSpec, adapt, find_targets, freeze_beyond_features
from tailora.backbones import Encoder, load_backbone
from tailora.backbones.stable_diffusion import embed_prompts
from tailora.errors import BackboneError, ConfigError
from tailora.train.denoising import denoising_objective
from tests.tiny import tiny_encoder_folder
from tests.tiny_foundation import pipeline_folder

pytest.importorskip("diffusers")


@pytest.fixture
def pipeline(tmp_path):
    return pipeline_folder(tmp_path / "sd")


@pytest.fixture
def pixels():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1


def load(folder, **options):
    return load_backbone(str(folder), options=options).model


def test_features_are_what_the_whole_u_net_has_at_its_middle(pipeline, pixels):
    model = load(pipeline, timestep=7, draws=3)
    caught = []
    hook = model.unet.mid_block.register_forward_hook(lambda *parts: caught.append(parts[2]))
    generator = torch.Generator().manual_seed(0)  # the same draws in the same order
    alpha = model.scheduler.alphas_cumprod[7].item()
    with torch.no_grad():
        latent = model.vae.encode(pixels).latent_dist
        for _ in range(3):
            own, noise = (torch.randn(4, 8, 8, generator=generator) for _ in range(2))
            clean = (latent.mean + latent.std * own) * model.vae.config.scaling_factor
            noisy = alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise
            model.unet(noisy, 7, encoder_hidden_states=model.text.expand(2, -1, -1))
        hook.remove()
        found = model(pixels).last_hidden_state
    torch.testing.assert_close(found, sum(caught) / 3, atol=1e-5, rtol=1e-4)
    assert found.shape == (2, 16, 4, 4)
    assert (model.config.patch_size, model.config.image_size) == (4, 16)


def test_more_draws_come_nearer_to_the_expected_feature(pipeline, pixels):
    def features(draws):
        with torch.no_grad():
            return load(pipeline, timestep=500, draws=draws)(pixels).last_hidden_state

    expected = features(256)
    one, sixteen = ((features(n) - expected).square().mean() for n in (1, 16))
    assert sixteen < one / 4


def test_the_prompt_is_the_empty_one_unless_another_is_given(pipeline):
    empty = embed_prompts(str(pipeline), [""], local=True)
    assert torch.equal(load(pipeline).text, empty)
    named = load_backbone(str(pipeline), options={"prompt": "an aerial image"})
    assert not torch.equal(named.model.text, empty)
    assert named.sha256 != load_backbone(str(pipeline)).sha256  # features differ, so must it
    assert (named.mean, named.std) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_denoising_loss_by_hand(prediction, tmp_path, pixels):
    model = load(pipeline_folder(tmp_path / prediction, prediction=prediction))
    generator = torch.Generator().manual_seed(5)
    own, noise = (torch.randn(2, 4, 8, 8, generator=generator) for _ in range(2))
    steps = torch.randint(0, 1000, (2,), generator=generator)
    with torch.no_grad():
        latent = model.vae.encode(pixels).latent_dist
        clean = (latent.mean + latent.std * own) * model.vae.config.scaling_factor
        errors = []
        for image, step in enumerate(steps.tolist()):
            alpha = model.scheduler.alphas_cumprod[step]
            noisy = alpha.sqrt() * clean[image] + (1 - alpha).sqrt() * noise[image]
            told = model.unet(noisy[None], step, encoder_hidden_states=model.text).sample[0]
            velocity = alpha.sqrt() * noise[image] - (1 - alpha).sqrt() * clean[image]
            aim = noise[image] if prediction == "epsilon" else velocity
            errors.append((told - aim).square().mean())
        loss = model.denoising_loss(pixels, torch.Generator().manual_seed(5))
    torch.testing.assert_close(loss, sum(errors) / 2, atol=1e-5, rtol=1e-4)


def test_an_objective_that_is_not_known_is_refused(tmp_path, pixels):
    model = load(pipeline_folder(tmp_path / "sample", prediction="sample"))
    with pytest.raises(BackboneError, match="predict 'sample'"):
        model.denoising_loss(pixels, torch.Generator())


def test_an_adapter_goes_on_attention_that_features_depend_on(pipeline):
    names = find_targets(load(pipeline))
    assert names
    assert all(name.startswith(("unet.down_blocks", "unet.mid_block")) for name in names)
    assert {name.split(".transformer_blocks")[-1][-6:] for name in names} >= {"1.to_q", "2.to_k"}


def test_denoising_trains_every_adapter_and_features_only_those_before_the_middle(pipeline):
    model = load(pipeline, draws=1).requires_grad_(False)
    everywhere = AdapterSpec(targets=["attn1.to_q", "attn2.to_q"])
    adapted = adapt(model, everywhere, seed=0, total_steps=1)
    encoder = Encoder(adapted, pooling="mean", mean=[0.5] * 3, std=[0.5] * 3)
    images = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    objective = denoising_objective(encoder, lambda rows: images[rows], device=torch.device("cpu"))
    objective(np.arange(4), np.random.default_rng(0)).backward()
    learning = {n for n, p in adapted.named_parameters() if p.requires_grad}
    assert any("up_blocks" in name for name in learning)
    assert {n for n, p in adapted.named_parameters() if p.grad is not None} == learning
    freeze_beyond_features(adapted)
    left = {n for n, p in adapted.named_parameters() if p.requires_grad}
    assert left == {name for name in learning if "up_blocks" not in name}


def test_training_on_noise_lowers_the_loss_on_noise(pipeline):
    model = load(pipeline).requires_grad_(False)
    adapted = adapt(model, AdapterSpec(rank=4), seed=0, total_steps=1)
    encoder = Encoder(adapted, pooling="mean", mean=[0.5] * 3, std=[0.5] * 3)
    images = torch.randint(0, 255, (8, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    objective = denoising_objective(encoder, lambda rows: images[rows], device=torch.device("cpu"))

    def average():
        with torch.no_grad():
            return sum(
                objective(np.arange(8), np.random.default_rng(seed)).item() for seed in range(8)
            )

    before = average()
    optimizer = torch.optim.Adam([p for p in adapted.parameters() if p.requires_grad], lr=3e-3)
    for step in range(20):
        optimizer.zero_grad()
        objective(np.arange(8), np.random.default_rng(100 + step)).backward()
        optimizer.step()
    assert average() < before


def test_an_encoder_that_makes_no_images_has_no_denoising_loss(tmp_path):
    model = load_backbone(str(tiny_encoder_folder(tmp_path / "tiny"))).model
    encoder = Encoder(model, pooling="mean", mean=[0.5] * 3, std=[0.5] * 3)
    with pytest.raises(BackboneError, match="needs a diffusion model, and Dinov2Model is none"):
        denoising_objective(encoder, lambda rows: rows, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timestep": -1}, r"timestep must lie in \[0, 999\]"),
        ({"timestep": 1000}, r"timestep must lie in \[0, 999\]"),
        ({"draws": 0}, "draws be at least 1"),
        ({"timestep": 1.5}, "timestep must be int, got 1.5"),
        ({"draws": True}, "draws must be int, got True"),
        ({"prompt": 3}, "prompt must be str, got 3"),
        ({"time": 1}, "unknown option of Stable Diffusion 'time'; did you mean 'timestep'"),
    ],
)
def test_options_out_of_range_are_refused(options, message, pipeline):
    with pytest.raises(ConfigError, match=message):
        load(pipeline, **options)


@pytest.mark.parametrize("part", ["unet", "vae", "scheduler", "tokenizer", "text_encoder"])
def test_a_pipeline_without_one_of_its_parts_is_refused(part, pipeline):
    shutil.rmtree(pipeline / part)
    with pytest.raises(BackboneError, match="it needs unet, vae, scheduler, tokenizer and"):
        load(pipeline)


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_missing_weights_are_named(part, pipeline):
    file = pipeline / part / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    gone = next(name for name in tensors if "norm1.weight" in name and "up_" not in name)
    del tensors[gone]
    save_file(tensors, file)
    with pytest.raises(BackboneError, match=f"the {part} in .* lacks 1 weights"):
        load(pipeline)


def test_text_and_u_net_of_different_models_are_refused(pipeline, tmp_path):
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
            cross_attention_dim=24, attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ).save_pretrained(pipeline / "unet")  # fmt: skip
    with pytest.raises(BackboneError, match="has width 8 and the U-Net expects 24"):
        load(pipeline)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("diffusers:someone/some-model", "no weights for .* the hub cannot be reached"),
        ("diffusers:{folder}", "leave out 'diffusers:'"),
    ],
)
def test_a_name_on_the_hub_is_told_what_is_missing(name, message, pipeline):
    with pytest.raises((BackboneError, ConfigError), match=message):
        load_backbone(name.format(folder=pipeline))
