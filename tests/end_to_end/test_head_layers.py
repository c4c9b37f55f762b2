"""A head that sees more layers than the encoder is trained through."""

import json

import numpy as np
import pytest
import torch

import tailora as package
from tailora.backbones import load_backbone
from tailora.methods.prepare import resolve_recipe
from tests.end_to_end.chips import DEBLORA, QUICK, metrics, succeed
from tests.tiny import tiny_encoder_folder

DEPTH = 4


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """An encoder deep enough for layers to be spread over it."""
    path = tmp_path_factory.mktemp("deep") / "tiny"
    return tiny_encoder_folder(path, hidden=16, layers=DEPTH)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data, deep):
    """A run whose head sees more layers, and the default, which sees the output alone."""
    made = {}
    for name, words in (("layers", ("--set", "probe.layers=[2,3,-1]")), ("output", ())):
        made[name] = tmp_path_factory.mktemp(name) / "run"
        succeed("fit", data, "--out", made[name], "--backbone", deep, *QUICK, *words)
    return made


def adapter(run):
    return (run / "adapter" / "adapter_model.safetensors").read_bytes()


def test_the_head_sees_the_layers_and_the_encoder_is_trained_as_without_them(runs):
    assert package.load_run(runs["output"]).recipe.probe.layers == []
    assert adapter(runs["layers"]) == adapter(runs["output"])
    own = [
        next(row for row in metrics(run)["methods"] if row["head"] == "own")
        for run in runs.values()
    ]
    assert own[0]["macro_f1"] == own[1]["macro_f1"]  # ordinary fine-tuning knows nothing of them


def test_its_features_are_those_layers_of_the_adapted_model_side_by_side(runs):
    run = package.load_run(runs["layers"])
    drawn = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 14, 14), dtype=torch.uint8, generator=drawn)
    encoder = run.model.encoder
    with torch.inference_mode():
        pixels = (images.float() / 255 - encoder.mean) / encoder.std
        outputs = encoder.backbone(pixel_values=pixels, output_hidden_states=True)
        parts = []
        for tokens in (outputs.hidden_states[2], outputs.hidden_states[3]):
            parts += [tokens[:, 0], tokens[:, 1:].mean(dim=1)]
        parts += [outputs.pooler_output, outputs.last_hidden_state[:, 1:].mean(dim=1)]
        expected = run.model.head(torch.cat(parts, dim=1)).softmax(dim=1)
    assert run.model.head.weight.shape[1] == 3 * 2 * 16
    found = run.predict_probabilities(images, raw=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_layers_are_spread_unless_something_speaks_against_it(data, deep, encoder):
    dataset = package.open_dataset(data)

    def layers(backbone=deep, **options):
        recipe = package.Recipe().override(
            {key.replace("__", "."): value for key, value in options.items()}
        )
        return resolve_recipe(recipe, load_backbone(str(backbone)), dataset).probe.layers

    assert layers(method="zero-shot") == [2, 3, -1]
    assert layers() == layers(method="fine-tune") == layers(method="deblora") == []
    assert layers(method="zero-shot", backbone=encoder) == []  # of one block
    assert layers(method="zero-shot", backbone__layers=[1, -1]) == []
    assert layers(probe__layers=[1]) == [1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--set", "probe.layers=[9]"), "layer 9 of Dinov2Model cannot be had"),
        (("--probe", "own", "--set", "probe.layers=[1]"), "was trained on the encoder's output"),
        ((*DEBLORA, "--set", "probe.layers=[1]"), "has features of the encoder's output alone"),
        (("--set", "probe.layers=spread"), "probe.layers"),
    ],
)
def test_layers_that_a_head_cannot_see_are_refused(words, says, data, deep, refuse):
    refuse("fit", data, "--backbone", deep, *QUICK, *words, says=[says])


def test_a_comparison_has_rows_of_layers_on_one_adapter(data, deep, tmp_path, plain_page):
    succeed("compare", data, "--out", tmp_path / "sweep", "--backbone", deep, *QUICK,
            "--methods", "lora", "--seeds", "1", "--set", "probe.layers=[]",
            "--probes", "own,logit-adjusted,logit-adjusted:layers=[2,-1]")  # fmt: skip
    found = json.loads((tmp_path / "sweep" / "comparison.json").read_text("utf-8"))
    rows = {row["probe"]: row["scores"]["all"]["mean"] for row in found["rows"]}
    assert len(rows) == 3
    stages = list((tmp_path / "sweep" / "stages").glob("lora-*"))
    assert len(stages) == 1
    names = {path.name for path in stages[0].glob("features-val*")}
    assert names == {"features-val", "features-val-layers-2,-1"}


def test_methods_are_compared_on_features_of_one_kind(data, deep, tmp_path, plain_page):
    succeed("compare", data, "--out", tmp_path / "sweep", "--backbone", deep, *QUICK,
            "--methods", "zero-shot,lora", "--seeds", "1")  # fmt: skip
    assert not list((tmp_path / "sweep").rglob("*-layers-*"))
