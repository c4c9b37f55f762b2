import math
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailora import registry
from tailora.config.recipe import (
    RANGES,
    Recipe,
    parse_assignment,
    read_recipe,
    recipe_keys,
)
from tailora.errors import ConfigError
from tailora.registry import fitted_methods
from tests.toy_mask_task import ToyMask

# a value other than the default for every key there is
OTHER = {
    "method": "deblora",
    "seed": 7,
    "task": "toy-mask",
    "data.image_size": 84,
    "data.resize": "stretch",
    "data.bands": [4, "red", 2],
    "data.skip_broken": True,
    "data.band_names": ["red", "nir"],
    "data.sensor": "sentinel-2",
    "data.alpha": "band",
    "data.mean": [0.5, 0.25],
    "data.std": [0.125, 2.0],
    "data.has_up": True,
    "data.radar": "amplitude",
    "data.clip": [2.0, 98.0],
    "data.looks": 3.0,
    "backbone.name": "some/folder",
    "backbone.pooling": "class",
    "backbone.layers": [3, -1],
    "backbone.stem": "by-wavelength",
    "backbone.new_bands": "mean",
    "backbone.new_bands_rate": 0.5,
    "backbone.wavelengths": [0.49, 0.56, 0.0],
    "backbone.options": {"timestep": 50},
    "adapter.tuner": "loha",
    "adapter.rank": 4,
    "adapter.targets": ["q_proj", "v_proj"],
    "adapter.options": {"rank_dropout": 0.1},
    "train.epochs": 9,
    "train.patience": 2,
    "train.trackers": ["tensorboard"],
    "train.batch_size": 5,
    "train.lr": 0.02,
    "train.weight_decay": 0.1,
    "train.head_start": "zero",
    "train.loss": "focal",
    "train.loss_options": {"gamma": 2.0},
    "train.augment": "none",
    "train.augment_options": {"operations": 3},
    "train.objective": "masked",
    "train.sampler": "oversampling",
    "train.sampler_options": {"ratio": 0.5},
    "train.recut": 0.5,
    "train.optimizer": "muon",
    "train.optimizer_options": {"momentum": 0.9},
    "train.objective_options": {"queue": 64},
    "train.detector": "rtmdet",
    "train.box_loss": "kld",
    "train.presence": "quality-focal",
    "train.mix": "cmo",
    "train.mix_options": {"alpha": 0.5},
    "train.mix_off": 2,
    "train.mix_average": "joint",
    "train.deferred": 0.8,
    "train.deferred_loss": "action-aware",
    "train.deferred_sampler": "none",
    "train.ema": 0.99,
    "train.soup": 3,
    "train.soup_ratios": [1.0, 2.5, 6.0],
    "train.interpolation": 0.7,
    "train.vog": True,
    "deblora.unit": "object",
    "deblora.clusters": 7,
    "deblora.balance": math.inf,
    "deblora.source": "pretrained",
    "deblora.pull": 0.25,
    "deblora.calibrate": ["ship", "plane"],
    "deblora.center_weights": "cluster-share",
    "deblora.center_samples": "balanced",
    "deblora.move": "sample",
    "deblora.rounds": 3,
    "deblora.fit_on": "all",
    "deblora.regression": "smooth-l1",
    "deblora.init": "fresh",
    "deblora.standardize": False,
    "deblora.pca": 64,
    "deblora.head": "both",
    "deblora.epochs": 11,
    "deblora.lr": 0.5,
    "probe.loss": "cross-entropy",
    "probe.loss_options": {"cap": 3.0},
    "probe.l2": [0.5, 0.25],
    "probe.smoothing": 0.5,
    "probe.neighbours": 7,
    "evaluate.groups": {"head": ["ship"], "middle": ["plane"], "tail": ["Öl tank", "水"]},
    "evaluate.low": 3.0,
    "evaluate.high": 30.0,
    "evaluate.replicates": 50,
    "evaluate.confidence": 0.8,
    "evaluate.trust_f1": 0.7,
    "evaluate.trust_support": 3,
    "evaluate.trust_overconfidence": 0.2,
    "evaluate.coverage": 0.8,
    "probe.views": 8,
    "probe.layers": [0, -1],
    "probe.detail": "stem",
    "evaluate.label_value": False,
    "evaluate.balanced_reference": 0.75,
    "compute.precision": "bf16",
    "compute.micro_batch": 4,
    "compute.checkpointing": True,
    "compute.compile": True,
    "compute.shard": True,
}


@pytest.fixture(autouse=True)
def _another_task(monkeypatch):
    """There is one task, so that a recipe with another needs one that is registered."""
    monkeypatch.setattr(registry, "_REGISTERED", {})
    registry.register("tasks", "toy-mask", ToyMask)


# a value of the wrong type for each
WRONG = {key: {"a": 1} if isinstance(value, list | bool) else [1.5] for key, value in OTHER.items()}


def written(recipe, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml(), "utf-8")
    return path


def test_these_tests_know_every_key():
    assert OTHER.keys() == recipe_keys().keys()
    defaults = recipe_keys()
    assert all(defaults[key] != value for key, value in OTHER.items())


def test_the_defaults_survive_toml(tmp_path):
    path = written(Recipe(), tmp_path)
    assert Recipe().override(read_recipe(path)) == Recipe()
    assert Recipe().flat() == recipe_keys()


def test_a_recipe_in_which_every_key_differs_survives_toml(tmp_path):
    recipe = Recipe().override(OTHER)
    assert recipe.flat() == OTHER
    path = written(recipe, tmp_path)
    assert Recipe().override(read_recipe(path)) == recipe
    assert tomllib.loads(path.read_text("utf-8"))["deblora"]["balance"] == math.inf


@pytest.mark.parametrize("key", OTHER)
def test_one_key_alone_is_overridden_and_survives_toml(key, tmp_path):
    recipe = Recipe().override({key: OTHER[key]})
    changed = {k for k, v in recipe.flat().items() if v != recipe_keys()[k]}
    # targets in the pretrained space need a fresh adapter, which has to learn what stays too
    forced = {"deblora.init", "deblora.fit_on"}
    assert changed == ({key} | (forced if key == "deblora.source" else set()))
    assert Recipe().override(read_recipe(written(recipe, tmp_path))) == recipe


@pytest.mark.parametrize("key", OTHER)
def test_a_value_of_the_wrong_type_is_refused_with_key_and_value(key):
    with pytest.raises(ConfigError, match=rf"{key} must be ") as caught:
        Recipe().override({key: WRONG[key]})
    message = str(caught.value)
    assert "got " in message
    assert "None" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.epochs", 1.5, "train.epochs must be int, got 1.5"),
        ("train.epochs", "three", "train.epochs must be int, got 'three'"),
        ("seed", True, "seed must be int, got True"),
        ("deblora.lr", True, "deblora.lr must be float, got True"),
        ("data.skip_broken", 1, "data.skip_broken must be bool, got 1"),
        ("data.bands", [1.5], "each value of data.bands must be int or str, got 1.5"),
        ("data.bands", 3, "data.bands must be list.int . str., got 3"),
        ("probe.l2", ["a"], "each value of probe.l2 must be float, got 'a'"),
        ("deblora.calibrate", [1], "each value of deblora.calibrate must be str, got 1"),
        ("deblora.pull", [1], "deblora.pull must be str or float"),
        ("adapter.rank", "8", "adapter.rank must be int, got '8'"),
        ("evaluate.groups", 3, "evaluate.groups must be str or dict"),
    ],
)
def test_types_are_told_apart(key, value, message):
    with pytest.raises(ConfigError, match=message):
        Recipe().override({key: value})


@pytest.mark.parametrize("key", ["train.lr", "deblora.balance", "deblora.pull", "evaluate.low"])
def test_a_whole_number_is_taken_for_a_real_one(key):
    value = Recipe().override({key: 1}).flat()[key]
    assert (value, type(value)) == (1.0, float)


def test_whole_numbers_in_a_list_of_real_ones_too():
    assert [type(v) for v in Recipe().override({"probe.l2": [1, 0.5]}).probe.l2] == [float, float]


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("deblora.balanse", "deblora.balance"),
        ("debora.balance", "deblora.balance"),
        ("train.epoch", "train.epochs"),
        ("sed", "seed"),
    ],
)
def test_an_unknown_key_names_the_nearest(key, near, tmp_path):
    message = rf"unknown recipe key '{key}'; did you mean '{near}'\?"
    with pytest.raises(ConfigError, match=message):
        Recipe().override({key: 1})
    with pytest.raises(ConfigError, match=message):
        parse_assignment(f"{key}=1")
    section, _, name = key.rpartition(".")
    text = f"[{section}]\n{name} = 1\n" if section else f"{name} = 1\n"
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ConfigError, match=f"^recipe '.*r.toml': {message}"):
        read_recipe(tmp_path / "r.toml")


def test_a_key_within_a_table_says_how_the_table_is_set():
    said = (
        r"probe\.loss_options is a table, set as a whole, .* 'probe\.loss_options=\{tau=\.\.\.\}'"
    )
    with pytest.raises(ConfigError, match=said):
        Recipe().override({"probe.loss_options.tau": 0.5})


def test_a_section_given_as_a_value_is_an_unknown_key(tmp_path):
    (tmp_path / "r.toml").write_text("train = 3\n")
    with pytest.raises(ConfigError, match="unknown recipe key 'train'"):
        read_recipe(tmp_path / "r.toml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "deblor"}, "unknown method 'deblor'; did you mean 'deblora'"),
        ({"seed": -1}, "seed must lie in"),
        ({"seed": 2**32}, "seed must lie in"),
        ({"deblora.balance": 0.5}, "balance .rho. must be at least 1"),
        ({"deblora.pull": 2}, r"pull must lie in \[0, 1\]"),
        ({"deblora.calibrate": "tails"}, "did you mean 'tail'"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Recipe().override(values)


def test_overriding_gives_a_new_recipe_and_keeps_the_rest():
    first = Recipe().override({"train.epochs": 9, "seed": 3})
    second = first.override({"train.lr": 0.1})
    assert Recipe().train.epochs != 9
    assert (second.train.epochs, second.train.lr, second.seed) == (9, 0.1, 3)
    assert first.train.lr is None


def test_recipes_share_no_lists():
    Recipe().data.bands.append(7)
    assert Recipe().data.bands == []


def test_only_what_differs_needs_to_be_written(tmp_path):
    (tmp_path / "r.toml").write_text('method = "lora"\n[deblora]\nbalance = 2\n')
    assert read_recipe(tmp_path / "r.toml") == {"method": "lora", "deblora.balance": 2}


def test_undecided_keys_are_left_out_of_the_file():
    content = tomllib.loads(Recipe().to_toml())
    assert "lr" not in content["train"]
    assert "image_size" not in content["data"]
    assert content["seed"] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (str, "no recipe at '.*r.toml'"),
        (lambda path: path.mkdir(), "cannot read recipe '.*r.toml'"),
        (lambda path: path.write_text("a = = 3"), "recipe '.*r.toml' is not TOML: "),
        (lambda path: path.write_bytes(b"\xff\xfe"), "recipe '.*r.toml' is not TOML: "),
        (lambda path: path.write_text("seed = " + "9" * 5000), "is not TOML: .* digits"),
        (lambda path: path.write_text("seed = " + "[" * 99_999), "is not TOML: .* too deep"),
        (lambda path: path.write_text('method = "\\u0000"'), "is not TOML: .*NUL"),
        (lambda path: path.write_bytes(b"#" * 2**21), "not a recipe: larger than 1048576 bytes"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_refused_on_one_line(make, message, tmp_path):
    make(tmp_path / "r.toml")
    with pytest.raises(ConfigError, match=message) as caught:
        read_recipe(tmp_path / "r.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("seed=3", "seed", 3),
        (" seed = 3 ", "seed", 3),
        ("train.lr=1e-3", "train.lr", 0.001),
        ("deblora.balance=inf", "deblora.balance", math.inf),
        ("deblora.pull=0.5", "deblora.pull", 0.5),
        ("deblora.pull=adaptive", "deblora.pull", "adaptive"),
        ('deblora.pull="adaptive"', "deblora.pull", "adaptive"),
        ("deblora.calibrate=tail+middle", "deblora.calibrate", "tail+middle"),
        ('deblora.calibrate=["a", "b c"]', "deblora.calibrate", ["a", "b c"]),
        ("backbone.name=facebook/dinov2-small", "backbone.name", "facebook/dinov2-small"),
        ("backbone.name=/data/a=b", "backbone.name", "/data/a=b"),
        ("backbone.name=", "backbone.name", ""),
        ("data.bands=[4, 3, 2]", "data.bands", [4, 3, 2]),
        ("data.skip_broken=true", "data.skip_broken", True),
        ("adapter.options={lora_dropout = 0.1}", "adapter.options", {"lora_dropout": 0.1}),
        (
            'evaluate.groups={head = ["a"], middle = ["b"], tail = ["c"]}',
            "evaluate.groups",
            {"head": ["a"], "middle": ["b"], "tail": ["c"]},
        ),
    ],
)
def test_an_assignment_is_toml_or_a_bare_word(text, key, value):
    assert parse_assignment(text) == (key, value)
    Recipe().override(dict([parse_assignment(text)]))


@pytest.mark.parametrize("text", ["seed", "", "deblora.pull 0.5"])
def test_an_assignment_needs_an_equals_sign(text):
    with pytest.raises(ConfigError, match=f"--set takes key=value, got '{text}'"):
        parse_assignment(text)


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)


@settings(deadline=None, max_examples=25)
@given(
    method=st.sampled_from(fitted_methods()),
    name=words,
    classes=st.lists(words, max_size=4),
    number=st.floats(0, 1),
    l2=st.lists(st.floats(1e-9, 1e9), max_size=4),
)
def test_any_words_and_numbers_survive_toml(method, name, classes, number, l2, tmp_path_factory):
    recipe = Recipe().override(
        {
            "method": method,
            "backbone.name": name,
            "deblora.calibrate": classes,
            "deblora.pull": number,
            "probe.l2": l2,
            "evaluate.groups": {"head": classes},
        }
    )
    path = written(recipe, tmp_path_factory.mktemp("recipe"))
    assert Recipe().override(read_recipe(path)) == recipe


@pytest.mark.parametrize("key", RANGES)
def test_numbers_beyond_their_range_are_refused_with_the_range(key):
    low, high = RANGES[key]
    is_list = isinstance(OTHER[key], list)
    beyond = [math.nan, 10**18] if high < math.inf else [math.nan]
    for value in beyond:
        kept = [value] if is_list else value
        with pytest.raises(ConfigError, match=rf"{key} must |{key[8:]} .*must be ") as caught:
            Recipe().override({key: kept})
        assert len(str(caught.value)) < 200
    if high < math.inf:
        with pytest.raises(ConfigError, match=rf"{key} must lie in \[{low:,}, {high:,}\], got 1"):
            Recipe().override({key: [10**18] if is_list else 10**18})
        largest = type(OTHER[key])(high) if not is_list else [float(high)]
        assert Recipe().override({key: largest}).flat()[key] == largest


def test_endless_values_are_refused_in_a_short_line():
    for key, value in (("probe.l2", [0.5] * 1001), ("train.lr", 10**400), ("seed", "x" * 9999)):
        with pytest.raises(ConfigError, match=f"{key} must ") as caught:
            Recipe().override({key: value})
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 99_999, '"\\u0000"', "1" + "0" * 400])
def test_an_assignment_of_endless_digits_or_depth_is_refused(value):
    with pytest.raises(ConfigError, match=r"train\.lr cannot be read: "):
        parse_assignment(f"train.lr={value}")
