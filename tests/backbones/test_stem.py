"""An RGB stem on other bands: which kernel goes where, how it is scaled, what learns."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModel

from tailora.adapters import AdapterSpec, adapt, find_targets, require_gradients
from tailora.backbones import Encoder
from tailora.backbones.stem import adapt_stem, find_stem, plan_stem
from tailora.errors import BackboneError, ConfigError
from tests.tiny import KINDS, loaded_encoder, tiny_encoder_folder

SENTINEL2 = (0.443, 0.490, 0.560, 0.665, 0.705, 0.740, 0.783, 0.842, 0.865, 0.945, 1.375, 1.610,
             2.190)  # fmt: skip
RGB = (0.665, 0.560, 0.490)


@pytest.fixture
def model():
    return loaded_encoder("dinov2")


def encoder_of(model, bands):
    return Encoder(model, pooling="mean", mean=[0.0] * bands, std=[1.0] * bands, scale=1).eval()


def kernels(model):
    """All kernels of the first layer (out, bands, height, width)."""
    stem = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    known = stem.weight.detach()
    return stem.new_bands(known).detach() if hasattr(stem, "new_bands") else known.clone()


@pytest.mark.parametrize(
    ("wavelengths", "expected"),
    [
        (RGB, ["red", "green", "blue"]),
        (RGB[::-1], ["blue", "green", "red"]),  # the order of Sentinel-2's files
        (SENTINEL2, ["new", "blue", "green", "red"] + ["new"] * 9),
        ((0.48, 0.56, 0.655, 0.865, 1.61, 2.2), ["blue", "green", "red", "new", "new", "new"]),
        ((0.5, 0.66, 0.665), ["blue", "new", "red"]),  # of two reds the nearer; green stays away
        ((0.56, 0.842), ["green", "new"]),
        ((0.0, 0.56, 0.0), ["new", "green", "new"]),
        ((None, 0.49), ["new", "blue"]),
        ((0.60,), ["green"]),
    ],
)
def test_each_kernel_goes_to_the_band_nearest_its_colour(wavelengths, expected):
    rows = plan_stem(wavelengths).table()
    assert [row.kernel for row in rows] == [e.replace("new", "zero") for e in expected]
    assert [row.learns for row in rows] == [e == "new" for e in expected]
    assert [row.band for row in rows] == list(range(1, len(wavelengths) + 1))


def test_the_table_names_what_has_no_band_and_how_kernels_are_scaled():
    plan = plan_stem((0.56, 0.842, 0.0, 0.665), new_bands="mean")
    assert plan.without_band() == ["blue"]
    assert [row.scale for row in plan.table()] == [0.75] * 4
    assert [row.wavelength for row in plan.table()] == [0.56, 0.842, None, 0.665]
    zero = plan_stem((0.56, 0.842)).table()
    assert [row.scale for row in zero] == [1.0, 0.0]


@pytest.mark.parametrize("new_bands", ["zero", "mean"])
def test_with_rgb_bands_the_encoder_is_what_it_was_to_the_bit(new_bands, model):
    images = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    adapted = adapt_stem(model, plan_stem(RGB, new_bands=new_bands))
    assert torch.equal(encoder_of(adapted, 3)(images), encoder_of(model, 3)(images))
    assert adapted.state_dict().keys() == model.state_dict().keys()


def test_bands_in_another_order_get_their_own_kernels_and_nothing_new(model):
    images = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    adapted = adapt_stem(model, plan_stem((0.490, 0.665, 0.560)))
    assert torch.equal(kernels(adapted), kernels(model)[:, [2, 0, 1]])
    torch.testing.assert_close(
        encoder_of(adapted, 3)(images[:, [2, 0, 1]]), encoder_of(model, 3)(images)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_mean_a_grey_image_in_every_band_gives_the_response_it_gave_in_rgb(kind):
    model = loaded_encoder(kind)
    grey = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    expected = encoder_of(model, 3)(grey.expand(-1, 3, -1, -1))
    some = (SENTINEL2, (0.48, 0.56, 0.655, 0.865), (0.56, 0.842), (0.0, 0.0), (0.56,))
    for wavelengths in some:
        adapted = adapt_stem(model, plan_stem(wavelengths, new_bands="mean"))
        count = len(wavelengths)
        torch.testing.assert_close(
            encoder_of(adapted, count)(grey.expand(-1, count, -1, -1)),
            expected,
            atol=1e-4,
            rtol=1e-4,
        )


@pytest.mark.parametrize("kind", KINDS)
def test_zero_other_bands_change_nothing_at_first(kind):
    model = loaded_encoder(kind)
    images = torch.randn(2, 13, 28, 28, generator=torch.Generator().manual_seed(0))
    adapted = adapt_stem(model, plan_stem(SENTINEL2))
    torch.testing.assert_close(
        encoder_of(adapted, 13)(images), encoder_of(model, 3)(images[:, [3, 2, 1]])
    )


def test_kernels_of_mean_by_hand(model):
    red, green, blue = kernels(model).unbind(1)
    adapted = adapt_stem(model, plan_stem((0.842, 0.49, 0.665, 0.56), new_bands="mean"))
    by_hand = [(red + green + blue) / 3, blue, red, green]
    torch.testing.assert_close(kernels(adapted), torch.stack(by_hand, 1) * 0.75)


def test_the_given_encoder_stays_as_it_was(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapt_stem(model, plan_stem(SENTINEL2, new_bands="mean"))
    assert model.config.num_channels == 3
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@torch.random.fork_rng(devices=[])  # some tuners draw in their forward pass
@pytest.mark.parametrize("kind", ["dinov2", "clip", "swin", "convnextv2", "resnet"])
@pytest.mark.parametrize("tuner", ["lora", "dora", "loha", "ia3", "adalora", "oft"])
def test_new_kernels_learn_with_the_adapter_and_are_saved_with_it(kind, tuner, tmp_path):
    if tuner in ("ia3", "oft") and kind in ("convnextv2", "resnet"):
        pytest.skip("PEFT's IA3 and OFT do not fit the few channels of these tiny convolutions")
    model = loaded_encoder(kind)
    plan = plan_stem(SENTINEL2)
    images = torch.randn(2, 13, 28, 28, generator=torch.Generator().manual_seed(0))
    encoder = encoder_of(adapt_stem(model, plan).requires_grad_(False), 13)
    encoder.backbone = adapt(encoder.backbone, AdapterSpec(tuner), seed=0, total_steps=10)
    learning = {n for n, p in encoder.named_parameters() if p.requires_grad and "new_bands" in n}
    assert len(learning) == 1
    encoder(images).square().sum().backward()
    require_gradients(encoder.backbone)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter.sub_(0.1 * parameter.grad.sign())
    trained = encoder.eval()(images)
    encoder.backbone.save_pretrained(tmp_path / "adapter")
    opened = PeftModel.from_pretrained(adapt_stem(model, plan), tmp_path / "adapter")
    assert torch.equal(encoder_of(opened, 13)(images), trained)


def test_known_kernels_stay_frozen(model):
    adapted = adapt(
        adapt_stem(model, plan_stem(SENTINEL2)).requires_grad_(False),
        AdapterSpec(), seed=0, total_steps=1,
    )  # fmt: skip
    learning = [n for n, p in adapted.named_parameters() if p.requires_grad and "patch_emb" in n]
    assert [name for name in learning if "new_bands.modules_to_save" not in name] == []


@pytest.mark.parametrize("kind", ["convnextv2", "resnet"])
def test_an_adapted_stem_gets_no_low_rank_update_beside_its_own(kind):
    model = loaded_encoder(kind)
    name, _ = find_stem(model)
    assert name in find_targets(model)
    assert name not in find_targets(adapt_stem(model, plan_stem(SENTINEL2)))


def test_thirteen_bands_cost_the_patch_embedding_s_extra_kernels_and_no_more(model):
    adapted = adapt_stem(model, plan_stem(SENTINEL2))
    own = find_stem(model)[1].weight

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(adapted) - count(model) == 10 * own[:, 0].numel()


@pytest.mark.parametrize(
    ("wavelengths", "new_bands", "message"),
    [
        (None, "zero", "needs the wavelength of each band"),
        ((), "zero", "needs the wavelength of each band"),
        ((None, None), "mean", "needs the wavelength of each band"),
        ((665.0, 560.0, 490.0), "zero", "must be in µm from 0 to 20"),  # nanometres
        ((-0.5,), "zero", "must be in µm from 0 to 20"),
        ((float("nan"), 0.5), "zero", "must be in µm from 0 to 20"),
        ((0.842, 1.61), "zero", "new_bands=mean"),
        (RGB, "meen", "unknown initialisation of new bands 'meen'; did you mean 'mean'"),
    ],
)
def test_what_cannot_be_planned_is_refused(wavelengths, new_bands, message):
    with pytest.raises(ConfigError, match=message):
        plan_stem(wavelengths, new_bands=new_bands)


def test_an_encoder_of_other_bands_has_no_rgb_stem(tmp_path):
    folder = tiny_encoder_folder(tmp_path / "four", bands=4)
    with pytest.raises(BackboneError, match="with 4 bands has no RGB stem"):
        adapt_stem(AutoModel.from_pretrained(folder), plan_stem(SENTINEL2))
