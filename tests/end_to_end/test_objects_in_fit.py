"""Objects in the place of names in `tailora.fit`: what the run says, and what it needs later."""

import copy
import tomllib

import numpy as np
import peft
import pytest
import torch
from torch import nn
from torch.nn import functional

import tailora as package
from tailora import registry
from tailora.backbones import load_backbone
from tailora.errors import ConfigError, TailoraError
from tailora.heads.linear_probe import zero_linear
from tailora.heads.probe import Probe
from tailora.heads.probes import find_probe
from tailora.losses import FocalLoss
from tailora.report import write_report
from tailora.samplers import OversamplingSampler
from tests.end_to_end.chips import assert_same_result, refused, tailora

SETTINGS = {
    "data.image_size": 14, "train.epochs": 1, "adapter.rank": 2, "probe.l2": [0.1],
    "evaluate.replicates": 40, "train.batch_size": 16, "evaluate.label_value": False,
}  # fmt: skip


class Squared(nn.Module):
    """Squared distance to one-hot targets, a loss that no shelf has."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = weight

    def forward(self, logits, targets):
        wanted = functional.one_hot(targets, logits.shape[1])
        return self.weight * (logits - wanted).square().mean()


class Backwards:
    """Rows in their order, the last first."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(range(self.rows - 1, -1, -1))

    def __len__(self):
        return self.rows

    def set_epoch(self, epoch):
        self.epoch = epoch


class Scaled(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.linear = zero_linear(width, classes)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, features):
        return self.scale * self.linear(features)


class MeanProbe(Probe):
    """Class means as directions, as sharp as it is told."""

    name = "class-means"
    summary = "class means as directions"

    def __init__(self, sharpness=4.0):
        self.sharpness = sharpness

    def fit(self, data, options=None):
        head = self.empty(data.features.shape[1], len(data.counts.names))
        head.scale.fill_(self.sharpness)
        for c in range(len(data.counts.names)):
            mean = torch.from_numpy(data.features[data.labels == c].mean(axis=0))
            head.linear.weight.data[c] = functional.normalize(mean, dim=0)
        return head

    def empty(self, width, classes, options=None):
        return Scaled(width, classes)


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 12)
        )
    net.image_size = 14
    return net


@pytest.fixture(scope="module")
def chips(data):
    return package.open_dataset(data)


def fit(chips, encoder, out, *, method="lora", settings=SETTINGS, **options):
    given = {"backbone": str(encoder), "method": method} | options
    return package.fit(chips, recipe=package.Recipe().override(settings), out=out, **given)


def recipe_of(run):
    return tomllib.loads((run / "recipe.toml").read_text("utf-8"))


# --- loss and sampler matter in training alone ---


def test_a_run_with_objects_of_training_lives_without_them(chips, encoder, tmp_path):
    run = tmp_path / "run"
    rows = len(chips.indices("train"))
    fit(chips, encoder, run, loss=Squared(2.5), sampler=Backwards(rows))
    train = recipe_of(run)["train"]
    here = Squared.__module__
    assert train["loss"] == f"object:{here}.Squared"
    assert train["loss_options"] == {"repr": "Squared()", "values": {"weight": 2.5}}
    assert train["sampler"] == f"object:{here}.Backwards"
    assert train["sampler_options"]["values"] == {"epoch": 0, "rows": rows}
    loaded = package.load_run(run)  # predicts, and says what it was, without the objects
    assert loaded.predict_probabilities(torch.zeros(2, 3, 14, 14)).shape == (2, 5)
    assert "2.5" in write_report(run).read_text("utf-8")
    with pytest.raises(ConfigError, match=r"given in Python: give it again, as loss=\.\.\."):
        package.fit(chips, recipe=loaded.recipe, out=tmp_path / "again")


def test_the_object_is_what_is_minimised(chips, encoder, tmp_path, plain_report):
    """Twice the loss is twice the number, on the first batch."""
    losses = []
    for weight in (1.0, 2.0):
        run = fit(chips, encoder, tmp_path / str(weight), loss=Squared(weight))
        losses.append(next(iter(run.history)).loss)
    assert losses[1] == pytest.approx(2 * losses[0], rel=1e-5)


def test_an_object_that_a_name_gives_makes_the_run_of_the_name(
    chips, encoder, tmp_path, plain_report
):
    counts, train = chips.counts("train"), chips.labels[chips.indices("train")]
    own = fit(
        chips, encoder, tmp_path / "own", loss=FocalLoss(counts, gamma=1.5),
        sampler=OversamplingSampler(train), probe=find_probe("crt"),
        adapter=package.AdapterSpec("lora", 2),
    )  # fmt: skip
    named = SETTINGS | {
        "train.loss": "focal", "train.loss_options": {"gamma": 1.5},
        "train.sampler": "oversampling", "probe.loss": "crt",
    }  # fmt: skip
    same = fit(chips, encoder, tmp_path / "same", settings=named)
    assert own.recipe == same.recipe
    assert_same_result(tmp_path / "own", tmp_path / "same")


def test_a_run_with_objects_is_resumed_with_the_same_objects(
    chips, encoder, tmp_path, monkeypatch, plain_report
):
    class Broken(package.Callback):
        def on_epoch_end(self, event):
            raise KeyboardInterrupt

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fit(chips, encoder, run, loss=Squared(2.0), callbacks=[Broken()])
    assert not registry._REGISTERED.get("losses")
    with pytest.raises(TailoraError, match=r"has a different recipe: train\.loss_options was"):
        fit(chips, encoder, run, loss=Squared(3.0), resume=True)
    fit(chips, encoder, run, loss=Squared(2.0), resume=True)
    fit(chips, encoder, tmp_path / "straight", loss=Squared(2.0))
    assert_same_result(run, tmp_path / "straight")


# --- a head and an encoder matter afterwards too ---


def test_a_head_that_is_an_object_is_given_again_to_load(chips, encoder, tmp_path, data):
    run = tmp_path / "run"
    made = fit(chips, encoder, run, probe=MeanProbe(8.0), method="zero-shot")
    told = recipe_of(run)["probe"]
    assert told["loss"].startswith("object:")
    assert told["loss_options"]["values"] == {"sharpness": 8.0}
    images = torch.randint(0, 255, (4, 3, 14, 14), generator=torch.Generator().manual_seed(0))
    again = package.load_run(run, probe=MeanProbe(8.0))
    np.testing.assert_array_equal(
        again.predict_probabilities(images), made.predict_probabilities(images)
    )
    answer = tailora("predict", run, data / "007", "-q")
    refused(answer, f"probe {told['loss']!r} is an object", "give it again, as probe=...")
    with pytest.raises(TailoraError, match=r"another head .* values or weights differ"):
        package.load_run(run, probe=MeanProbe(4.0))
    assert "class-means" not in write_report(run).read_text("utf-8")


def test_a_head_that_is_linear_needs_no_object(chips, encoder, tmp_path):
    class Linear(Probe):
        name = "plain"
        summary = "a linear layer"

        def fit(self, data, options=None):
            head = zero_linear(data.features.shape[1], len(data.counts.names))
            head.weight.data.copy_(torch.eye(*head.weight.shape))
            return head

        def empty(self, width, classes, options=None):
            return zero_linear(width, classes)

    run = tmp_path / "run"
    fit(chips, encoder, run, probe=Linear(), method="zero-shot")
    assert package.load_run(run).predict_probabilities(torch.zeros(1, 3, 14, 14)).shape == (1, 5)


def test_an_encoder_that_is_an_object_is_given_again_to_load(chips, encoder, tmp_path, data):
    run, module = tmp_path / "run", network()
    before = copy.deepcopy(module.state_dict())
    made = fit(chips, encoder, run, backbone=module)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
    told = recipe_of(run)["backbone"]
    assert told["name"] == "object:torch.nn.modules.container.Sequential"
    assert made.record.backbone.source == "object"
    # nobody knows how its images were normalised: by the training images
    pixels = made.input
    assert pixels.scale == 1.0
    assert min(pixels.mean) > 10
    images = torch.randint(0, 255, (4, 3, 14, 14), generator=torch.Generator().manual_seed(0))
    again = package.load_run(run, backbone=network())
    np.testing.assert_array_equal(
        again.predict_probabilities(images), made.predict_probabilities(images)
    )
    refused(
        tailora("predict", run, data / "007", "-q"),
        "is an object that was given in Python: give it again, as backbone=...",
    )
    with pytest.raises(TailoraError, match=r"another encoder .*Sequential"):
        package.load_run(run, backbone=network(seed=1))
    assert write_report(run).is_file()
    # PEFT alone opens the adapter on the wrapped module
    from tailora.backbones.module_backbone import ModuleBackbone

    with torch.random.fork_rng(devices=[]):
        adapted = peft.PeftModel.from_pretrained(ModuleBackbone(network()), run / "adapter")
    own = dict(made.model.encoder.backbone.named_parameters())
    for name, tensor in adapted.named_parameters():
        assert torch.equal(tensor, own[name])


def test_an_encoder_found_by_its_name_takes_no_object(chips, encoder, tmp_path, plain_report):
    fit(chips, encoder, tmp_path / "run", method="zero-shot")
    with pytest.raises(TailoraError, match="which is found by its name: give no object"):
        package.load_run(tmp_path / "run", backbone=network())
    with pytest.raises(TailoraError, match="the run has head 'logit-adjusted', which is found"):
        package.load_run(tmp_path / "run", probe=MeanProbe())


def test_an_encoder_of_transformers_as_an_object_is_the_one_of_its_folder(
    chips, encoder, tmp_path, plain_report
):
    from transformers import AutoModel

    given = AutoModel.from_pretrained(encoder)
    own = fit(chips, encoder, tmp_path / "own", backbone=given)
    same = fit(chips, encoder, tmp_path / "same")
    assert own.record.backbone.sha256 == same.record.backbone.sha256
    assert_same_result(tmp_path / "own", tmp_path / "same")
    loaded = load_backbone(str(encoder))
    again = package.load_run(tmp_path / "own", backbone=loaded)
    assert again.record.backbone.name.startswith("object:transformers.")


def test_adapters_by_name_and_by_peft_config(chips, encoder, tmp_path, plain_report):
    by_config = fit(
        chips, encoder, tmp_path / "a",
        adapter=peft.LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj"], lora_dropout=0.25),
    )  # fmt: skip
    [config] = by_config.model.encoder.backbone.peft_config.values()
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 5, 0.25)
    assert all(name.endswith("q_proj") for name in config.target_modules)
    assert fit(chips, encoder, tmp_path / "b", adapter="ia3").recipe.adapter.tuner == "ia3"


# --- the wrong kind ---


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"loss": 3}, "loss must be a name or a torch.nn.Module, got 3"),
        ({"loss": FocalLoss}, "got the class FocalLoss; pass an instance"),
        ({"loss": nn.Linear(2, 2, device="meta")}, "loss Linear cannot be called with logits"),
        ({"loss": nn.CrossEntropyLoss(reduction="none")}, "it returned Tensor, not a scalar"),
        ({"sampler": [1, 2]}, "sampler must be a name or an object with __iter__, __len__ and set"),
        ({"sampler": Backwards(500)}, "sampler Backwards draws row 499"),
        ({"sampler": Backwards}, "got the class Backwards; pass an instance"),
        ({"probe": MeanProbe}, "got the class MeanProbe; pass an instance"),
        ({"probe": nn.Flatten()}, "probe must be a name or a tailora.heads.probe.Probe"),
        ({"probe": "crtt"}, "unknown probe 'crtt'; did you mean 'crt'?"),
        ({"backbone": 7}, "backbone must be a name or a torch.nn.Module, got 7"),
        ({"backbone": nn.Flatten()}, "has no parameters, so there is nothing to adapt"),
        ({"adapter": 7}, "adapter must be the name of a tuner, an AdapterSpec, a PEFT config"),
        ({"adapter": "lorra"}, "unknown tuner 'lorra'; did you mean 'lora'?"),
        ({"adapter": peft.PromptTuningConfig()}, "unknown tuner 'prompt_tuning'"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_line(given, said, chips, encoder, tmp_path):
    with pytest.raises(TailoraError) as caught:
        fit(chips, encoder, tmp_path / "run", **given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
