"""Parts that are registered, and packages that register them."""

import json
import tomllib
from pathlib import Path

import pytest
from torch import nn

import tailora as package
from tailora import registry
from tailora.errors import ConfigError
from tailora.heads.probe import Probe
from tailora.methods.lora import LoRA
from tailora.methods.method import Method
from tailora.report.style import MARKERS, STRONG_COLOURS, row_style
from tests.end_to_end.chips import QUICK, refused, succeed, tailora

PLUGIN = Path(__file__).parents[1] / "plugin_package"


class Loss(nn.Module):
    """A loss of my own."""

    def __init__(self, counts, *, strength=0.5):
        super().__init__()
        self.counts, self.strength = counts, strength


class Sampler:
    """An order of my own."""

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0


class Epochs(Sampler):
    """An order that knows the epoch."""

    def set_epoch(self, epoch):
        """Take note of it."""


class Mix:
    """Mixes batches."""

    def __call__(self, images, labels, generator):
        return images, labels, generator


class Unfinished(Probe):
    """A head that cannot be loaded."""

    name = "my-part"
    summary = "a head of my own"

    def fit(self, data, options=None):
        return nn.Linear(1, 1)


class Head(Unfinished):
    """A head of my own."""

    def empty(self, width, classes, options=None):
        return nn.Linear(width, classes)


def encoder_of_my_own():
    """An encoder of my own."""


class Own(Method):
    """A method of my own."""

    name = "my-part"
    title = "own"
    summary = "a method of my own"


class OwnLoRA(LoRA):
    """A method of my own that looks like itself."""

    name = "own-lora"
    title = "own LoRA"
    summary = "an adapter of my own"
    stands_on = ("zero-shot", "lora")
    style = ("#123456", "v")


def optimiser(params, lr=1.0, weight_decay=0.0):
    """Makes an optimiser."""


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    """Forget afterwards what a test registers, and look for plugins anew."""
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.setattr(registry, "_LOADED", set())
    registry._plugins.cache_clear()
    yield
    registry._plugins.cache_clear()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Lay a distribution with an entry point where Python finds it."""

    def lay(name, point, code=None):
        folder = tmp_path / "site"
        about = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[tailora.plugins]\n{point}\n")
        if code is not None:
            (folder / f"{name.replace('-', '_')}.py").write_text(code)
        monkeypatch.syspath_prepend(str(folder))

    return lay


@pytest.fixture
def tempered(install, monkeypatch):
    asked = tomllib.loads((PLUGIN / "pyproject.toml").read_text("utf-8"))["project"]
    monkeypatch.syspath_prepend(str(PLUGIN))
    points = asked["entry-points"]["tailora.plugins"]
    install(asked["name"], "\n".join(f"{name} = {where}" for name, where in points.items()))


def test_a_loss_of_another_package_trains_from_the_command_line(tempered, data, encoder, tmp_path):
    words = ("fit", data, "--backbone", encoder, *QUICK, "--method", "lora")
    options = ("--set", "train.loss_options={temperature=1.0}", "--set", "probe.loss=tempered")
    succeed(*words, "--out", tmp_path / "own", "--set", "train.loss=tempered", *options)
    plain = ("--set", "train.loss=cross-entropy", "--set", "probe.loss=cross-entropy")
    succeed(*words, "--out", tmp_path / "plain", *plain)
    assert 'loss = "tempered"' in (tmp_path / "own" / "recipe.toml").read_text("utf-8")
    # at the temperature 1 it is cross-entropy
    own, same = [(tmp_path / run / "predictions.csv").read_bytes() for run in ("own", "plain")]
    assert own == same
    options = ("--set", "train.loss=tempered", "--set", "train.loss_options={heat=2}")
    refused(tailora(*words, "--out", tmp_path / "b", *options), "tempered has no option 'heat'")


def test_loss_head_and_encoder_of_a_package_from_the_command_line(
    tempered, data, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    words = ("fit", data, "--backbone", "pyramid", *QUICK, "--method", "lora")
    options = ("--set", "train.loss=tempered", "--set", "train.loss_options={temperature=2.0}")
    chosen = ("--set", "backbone.options={width=6}", "--probe", "ridge:penalty=0.5")
    succeed(*words, *options, *chosen, "--out", run)
    record = json.loads((run / "run.json").read_text("utf-8"))
    assert (record["backbone"]["name"], record["backbone"]["source"]) == ("pyramid", "plugin")
    head = json.loads((run / "head.json").read_text("utf-8"))
    assert (head["name"], head["options"]) == ("ridge", {"penalty": 0.5})
    said = succeed("predict", run, data / "007", "--out", tmp_path / "a.csv")
    assert said.code == 0
    from_loaded = package.load_run(run)
    images = from_loaded.model.encoder.backbone.get_base_model().net
    assert images[0].base_layer.out_channels == 6
    refused(
        tailora(*words, "--out", tmp_path / "b", "--set", "backbone.options={wide=6}"),
        "pyramid has no option 'wide'",
    )
    # without the package it is said what is needed, and the report is made all the same
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.setenv("TAILORA_NO_PLUGINS", "1")
    refused(tailora("predict", run, data / "007", "-q"), "unknown encoder or folder 'pyramid'")
    succeed("report", run, "-q")


def test_a_run_needs_the_package_of_its_head(tempered, data, quick, tmp_path, monkeypatch):
    run = tmp_path / "run"
    succeed("fit", data, "--out", run, *quick, "--method", "zero-shot", "--probe", "ridge")
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.setenv("TAILORA_NO_PLUGINS", "1")
    refused(
        tailora("predict", run, data / "007", "-q"),
        "unknown probe 'ridge'", "; a head from a plugin needs that package installed",
    )  # fmt: skip
    succeed("report", run, "-q")


@pytest.mark.parametrize(
    ("learns", "said"),
    [
        ("attribute", "its state is not all of it"),
        ("wide", "size mismatch for weight"),
        ("none", "'NoneType' object has no attribute"),
        ("flat", "it returns (32,) where (32, 5) was expected"),
    ],
)
def test_a_head_that_cannot_be_saved_is_refused(learns, said, data, quick, tmp_path):
    class Kept(nn.Linear):
        shift = 0.0

        def forward(self, rows):
            found = super().forward(rows) + self.shift
            return found[:, 0] if learns == "flat" else found

    class Odd(Probe):
        name = "odd"
        summary = "keeps something elsewhere"

        def fit(self, data, options=None):
            head = Kept(data.features.shape[1], len(data.counts.names))
            head.shift = 1.0 if learns == "attribute" else 0.0
            return None if learns == "none" else head

        def empty(self, width, classes, options=None):
            return Kept(width + (learns == "wide"), classes)

    package.register("heads", "odd", Odd)
    run = tmp_path / "run"
    answer = tailora("fit", data, "--out", run, *quick, "--probe", "odd", "--method", "zero-shot")
    refused(answer, "head 'odd' cannot be saved: ", said)


def test_a_run_outlives_the_package_that_it_was_fitted_with(
    tempered, data, encoder, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    options = ("--set", "train.loss=tempered", "--method", "lora")
    succeed("fit", data, "--out", run, "--backbone", encoder, *QUICK, *options)
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.setenv("TAILORA_NO_PLUGINS", "1")
    assert succeed("predict", run, data / "007", "-q").out
    succeed("report", run, "-q")


def test_what_a_package_adds_is_listed_and_described(tempered):
    found = json.loads(succeed("methods", "--json").out)
    line = "Cross-entropy of logits divided by a temperature (Guo et al., ICML 2017)"
    assert found["losses"]["tempered"] == line
    assert "tempered" in found["probes"]
    assert found["probes"]["ridge"].startswith("least squares on one-hot labels")
    assert found["backbones"]["pyramid"].startswith("A convolution whose responses are averaged")
    about = json.loads(succeed("methods", "pyramid", "--json").out)["pyramid"]
    assert about["options"] == "set as backbone.options"
    about = json.loads(succeed("methods", "tempered", "--json").out)["tempered"]
    assert about["option temperature"] == "1.0"
    assert "test" not in about


def test_without_plugins_nothing_is_added(tempered, monkeypatch):
    monkeypatch.setenv("TAILORA_NO_PLUGINS", "1")
    assert "tempered" not in registry.names("losses")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_package_anywhere", "No module named 'no_such_package_anywhere'"),
        ("def add():\n    1 / 0", "ZeroDivisionError: division by zero"),
        ("", "has no attribute 'add'"),
        (
            "import tailora\nfrom torch import nn\nclass L(nn.Module): ...\n"
            "def add():\n    tailora.register('losses', 'mine', L)\n"
            "    tailora.register('losses', 'focal', L)",
            "loss 'focal' exists already",
        ),
    ],
)
def test_a_plugin_that_fails_is_named_and_leaves_nothing(code, said, install, monkeypatch):
    name = f"broken-{abs(hash(said))}"
    install(name, f"mine = {name.replace('-', '_')}:add", code)
    for _ in range(2):  # it is not forgotten
        answer = tailora("methods", "focal")
        refused(answer, name)
        assert said in answer.err
        assert "TAILORA_NO_PLUGINS=1" in answer.err
    monkeypatch.setenv("TAILORA_NO_PLUGINS", "1")
    assert "mine" not in registry.names("losses")
    succeed("methods", "focal")


@pytest.mark.parametrize(
    ("family", "part"),
    [("losses", Loss), ("heads", Head), ("backbones", encoder_of_my_own), ("experts", Loss),
     ("contrastive", Loss), ("samplers", Epochs), ("augment", Mix), ("optim", optimiser),
     ("detection", optimiser), ("methods", Own)],
)  # fmt: skip
def test_every_shelf_takes_a_part(family, part):
    package.register(family, "my-part", part)
    assert registry.find(family, "my-part") is part
    assert registry.method_name(part) == "my-part"
    entry = registry.entries(family)["my-part"]
    assert (entry.summary, entry.options) == (registry.summary(part), registry.options(part))
    with pytest.raises(ConfigError, match="'my-part' exists already"):
        package.register(family, "my-part", part)


def test_a_method_of_one_s_own_has_its_place_among_the_others():
    package.register("methods", "my-part", Own)
    assert "my-part" in registry.fitted_methods()
    assert registry.method_facts()["my-part"]["uses"] == Method.uses
    assert "my-part" in " ".join(succeed("fit", "--help").out.split())
    assert "a method of my own" in succeed("methods", "my-part").out


@pytest.mark.parametrize(
    ("family", "name", "part", "said"),
    [
        ("losses", "own", Loss(None), "must be a class of torch.nn.Module, got Loss()"),
        ("losses", "own", optimiser, "must be a class of torch.nn.Module"),
        ("losses", "focal", Loss, "loss 'focal' exists already"),
        ("losses", "My Loss", Loss, "lower-case"),
        ("samplers", "own", Sampler, "__iter__, __len__ and set_epoch"),
        ("augment", "own", Sampler, "called with a batch"),
        ("optim", "own", 3, "a function that makes a torch optimiser, got 3"),
        ("heads", "own", Loss, "a subclass of tailora.heads.probe.Probe that defines fit and"),
        ("heads", "own", Unfinished, "that defines fit and empty"),
        ("heads", "other", Head, "must have name = 'other'"),
        ("losses", "crt", Loss, "loss 'crt' exists already"),
        ("backbones", "dinov2-small", encoder_of_my_own, "encoder 'dinov2-small' exists already"),
        ("backbones", "own", 7, "a function or a class that returns an encoder, got 7"),
        ("methods", "own", Loss, "a subclass of tailora.methods.method.Method"),
        ("methods", "other", Own, "must have name = 'other'"),
        ("loses", "own", Loss, "did you mean 'losses'"),
    ],
)
def test_a_part_of_another_kind_or_a_taken_name_is_refused(family, name, part, said):
    with pytest.raises(ConfigError) as caught:
        package.register(family, name, part)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_method_of_a_package_has_a_title_and_a_look_of_its_own():
    plain = type("PlainLoRA", (OwnLoRA,), {"name": "plain-lora"})
    package.register("methods", "own-lora", OwnLoRA)
    package.register("methods", "plain-lora", plain)
    assert registry.method_title("own-lora") == "own LoRA"
    assert registry.method_base("own-lora") == "lora"
    assert row_style(("own-lora", None), 2) == ("#123456", "v")
    # it inherits no look
    assert row_style(("plain-lora", None), 2) == (STRONG_COLOURS[2], MARKERS[2])
    assert row_style(("lora+reslt", None), 3) == (STRONG_COLOURS[3], MARKERS[3])
    assert row_style(("lora", None), 3) != row_style(("lora+reslt", None), 3)
    assert row_style(("nowhere", None), 0) == (STRONG_COLOURS[0], MARKERS[0])
    assert registry.method_base("nowhere") is registry.method_base("zero-shot") is None
