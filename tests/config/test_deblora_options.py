import dataclasses
import math

import pytest

from tailora.config.deblora_options import DebiasOptions
from tailora.errors import ConfigError
from tailora.methods.deblora.deblora import DebLoRA


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 0}, "clusters must be at least 1, got 0"),
        ({"balance": 0.99}, r"balance \(rho\) must be at least 1, got 0.99"),
        ({"balance": math.nan}, r"balance \(rho\) must be at least 1"),
        ({"pull": 2.0}, r"pull must lie in \[0, 1\]"),
        ({"pull": "adaptiv"}, "pull must be 'adaptive'"),
        ({"source": "adaptd"}, "unknown deblora.source 'adaptd'; did you mean 'adapted'"),
        ({"center_weights": "class"}, "unknown deblora.center_weights 'class'"),
        ({"fit_on": "tails"}, "unknown deblora.fit_on 'tails'; did you mean 'tail'"),
        ({"init": "frsh"}, "unknown deblora.init 'frsh'; did you mean 'fresh'"),
        ({"calibrate": "tail+head"}, "unknown deblora.calibrate 'tail.head'"),
        ({"pull": "validate"}, "pull must be 'adaptive' or 'validation' or a number"),
        ({"center_samples": "balance"}, "unknown deblora.center_samples .* did you mean 'balanc"),
        ({"move": "shrnk"}, "unknown deblora.move 'shrnk'; did you mean 'shrink'"),
        ({"regression": "smoth-l1"}, "unknown deblora.regression .* did you mean 'smooth-l1'"),
        ({"head": "feature"}, "unknown deblora.head 'feature'; did you mean 'features'"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"pull": 0, "move": "shift"}, "deblora.move='shift' has no effect where no class moves"),
        (
            {"pull": 0.0, "center_samples": "balanced"},
            "deblora.center_samples='balanced' has no effect",
        ),
        ({"calibrate": [], "rounds": 2}, "deblora.rounds=2 has no effect where no class moves"),
        ({"pull": 0, "regression": "cosine"}, "deblora.regression='cosine' has no effect where"),
        ({"calibrate": [], "pull": "validation"}, "deblora.pull='validation' has no effect where"),
        (
            {"clusters": 1, "regression": "cosine"},
            "one cluster shrinks features towards the overall mean.*use more clusters",
        ),
        ({"unit": "objects"}, "unknown deblora.unit 'objects'; did you mean 'object'"),
        ({"pull": 0, "unit": "object"}, "deblora.unit='object' has no effect where no class moves"),
        ({"pca": 0}, "pca must be at least 1, got 0"),
        ({"epochs": -1}, "epochs must be at least 0, got -1"),
        ({"epochs": 0}, "epochs=0 trains no new adapter"),
        ({"epochs": 0, "head": "both", "init": "fresh"}, "epochs=0 trains no new adapter"),
        (
            {"epochs": 0, "head": "both", "rounds": 2},
            "rounds=2 has no effect with deblora.epochs=0",
        ),
        ({"epochs": 0, "head": "both", "fit_on": "all"}, "has no effect with deblora.epochs=0"),
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"lr": math.nan}, "lr must be positive, got nan"),
        ({"lr": math.inf}, "lr must be positive, got inf"),
    ],
)
@pytest.mark.parametrize("kind", [DebiasOptions, DebLoRA])
def test_an_option_out_of_range_is_refused_when_it_is_given(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        kind(**options)


def test_the_extremes_are_allowed():
    DebiasOptions(clusters=1, balance=1.0, pull=0, calibrate=[], epochs=1, pca=1)
    DebiasOptions(balance=math.inf, pull=1.0, calibrate=["ship", "plane"])


def test_what_acts_in_spite_of_a_pull_of_zero_or_of_one_cluster_is_allowed():
    """A fresh adapter has to learn also what stays; other moves and centres change angles."""
    DebiasOptions(pull=0, init="fresh", regression="cosine", rounds=3)
    DebiasOptions(clusters=1, regression="cosine", move="shift")
    DebiasOptions(clusters=1, regression="cosine", center_samples="balanced")
    DebiasOptions(pull="validation", move="sample", rounds=2, regression="smooth-l1")


def test_the_paper_s_number_of_clusters_is_the_default():
    assert DebiasOptions().clusters == 32


def test_targets_in_the_pretrained_space_are_learnt_by_a_fresh_adapter():
    assert DebiasOptions(source="pretrained").init == "fresh"
    assert DebiasOptions(source="pretrained", init="from-base").init == "fresh"
    assert DebiasOptions().init == "from-base"
    assert DebiasOptions(init="fresh").init == "fresh"


def test_options_cannot_change_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DebiasOptions().clusters = 3


def test_the_method_splits_into_its_adapter_and_its_options():
    method = DebLoRA(
        tuner="dora", rank=4, targets=["q_proj"], tuner_options={"lora_dropout": 0.1},
        clusters=5, balance=2.0, pull=0.5, fit_on="tail", epochs=7,
    )  # fmt: skip
    spec = method.spec
    assert (spec.tuner, spec.rank, spec.targets) == ("dora", 4, ["q_proj"])
    assert spec.options == {"lora_dropout": 0.1}
    assert method.options == DebiasOptions(
        clusters=5, balance=2.0, pull=0.5, fit_on="tail", epochs=7
    )
    assert type(method.options) is DebiasOptions
