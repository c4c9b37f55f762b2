"""A training that cannot work, or would leave an option out, is refused before anything is done."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from tailora import Recipe
from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.experiments.plan import check_plan, make_plan, stage_key
from tailora.methods.checks import check_choices, check_recipe, check_task, planned_steps
from tailora.methods.method import find_method
from tailora.methods.training_parts import training_loss
from tailora.registry import compared_methods, fitted_methods
from tailora.tasks.task import find_task

COUNTS = ClassCounts(("a", "b", "c"), (60, 12, 6))


def check(settings, counts=COUNTS):
    return check_recipe(Recipe().override({"method": "lora", **settings}), counts, n_val=20)


GOOD = {
    "LDAM-DRW": {"train.loss": "ldam", "train.deferred": 0.8},
    "BRL's detached schedule": {"train.deferred": 0.8, "train.deferred_loss": "action-aware"},
    "Buda's two phases": {
        "train.sampler": "oversampling", "train.deferred": 0.5, "train.deferred_sampler": "none",
    },
    "a queue": {"train.objective": "paco", "train.objective_options": {"queue": 64}},
    "a sampler under two views": {"train.objective": "supcon", "train.sampler": "class-balanced"},
    "a sampler that changes without labels": {
        "train.objective": "masked", "train.deferred": 0.5, "train.deferred_sampler": "square-root",
    },
    "CMO in the middle": {"train.mix": "cmo"},
    "mixed experts": {"method": "lora+sade", "train.mix": "cutmix"},
    "options of the experts' loss": {"method": "lora+tlc", "train.loss_options": {"scale": 20.0}},
    "experts re-weighted at half": {"method": "lora+ride", "train.deferred": 0.5},
    "views by the augmentation": {"train.objective": "supcon", "train.augment": "nadir"},
    "photographs that are mirrored": {
        "train.augment": "nadir", "data.has_up": True, "train.mix": "cmo",
    },
    "LT-Soups": {"train.soup": 2, "train.soup_ratios": [1.0, 4.0]},
    "Muon": {"train.optimizer": "muon", "train.optimizer_options": {"lr": 0.02}},
}  # fmt: skip


def test_crops_are_refused_where_they_would_move_decisions():
    recipe = Recipe().override({"task": "segment", "train.augment": "nadir"})
    with pytest.raises(ConfigError, match=r"augment='nadir' needs one label per image"):
        check_task(recipe, find_task("segment"))


def test_gradients_of_images_are_refused_for_tokens_and_divided_encoders(monkeypatch):
    recipe = Recipe().override({"task": "segment", "train.vog": True})
    with pytest.raises(ConfigError, match=r"train\.vog needs one label per image"):
        check_task(recipe, find_task("segment"))
    monkeypatch.setattr("tailora.methods.checks.launched", lambda: 2)
    with pytest.raises(ConfigError, match=r"whole encoders; leave out compute\.shard"):
        check({"method": "fine-tune", "train.vog": True, "compute.shard": True})


@pytest.mark.parametrize("row", GOOD)
def test_recipes_of_the_papers_pass(row):
    check(GOOD[row])


BAD = {
    "an unknown objective": ({"train.objective": "supcn"}, "did you mean 'supcon'"),
    "an unknown optimiser": ({"train.optimizer": "moun"}, "did you mean 'muon'"),
    "an unknown mix": ({"train.mix": "cutmx"}, "did you mean 'cutmix'"),
    "an unknown second loss": (
        {"train.deferred": 0.5, "train.deferred_loss": "acton-aware"}, "did you mean 'action-aware'"
    ),
    "an unknown second sampler": (
        {"train.deferred": 0.5, "train.deferred_sampler": "nne"}, "did you mean 'none'"
    ),
    "an option AdamW does not have": (
        {"train.optimizer": "adamw", "train.optimizer_options": {"momentum": 0.9}},
        "adamw has no option 'momentum'",
    ),
    "options of an objective that has none": (
        {"train.objective_options": {"queue": 5}}, "train.objective_options has no effect"
    ),
    "options of rotation": (
        {"train.objective": "rotation", "train.objective_options": {"turns": 4}},
        "train.objective_options has no effect with train.objective='rotation'",
    ),
    "two views that are one": (
        {"train.objective": "supcon", "train.augment": "none"}, "two augmented views of an image"
    ),
    "a loss beside a contrastive one": (
        {"train.objective": "paco", "train.loss": "focal"}, "train.loss has no effect"
    ),
    "loss options beside a contrastive one": (
        {"train.objective": "sbcl", "train.loss_options": {"tau": 1.0}},
        "train.loss_options has no effect",
    ),
    "a mix of views": (
        {"train.objective": "supcon", "train.mix": "mixup"}, "train.mix has no effect"
    ),
    "a mix without labels": (
        {"train.objective": "masked", "train.mix": "mixup"}, "train.mix has no effect"
    ),
    "an augmentation beside rotation": (
        {"train.objective": "rotation", "train.augment": "none"}, "train.augment has no effect"
    ),
    "re-weighting without a loss": (
        {"train.objective": "supcon", "train.deferred": 0.5}, "has no weights"
    ),
    "fine-tuning by views": (
        {"method": "fine-tune", "train.objective": "supcon"}, "'fine-tune' trains on labels only"
    ),
    "experts by views": (
        {"method": "lora+ride", "train.objective": "paco"}, "'lora+ride' trains on labels only"
    ),
    "mix options without a mix": (
        {"train.mix_options": {"alpha": 1.0}}, "train.mix_options has no effect without train.mix"
    ),
    "averages without a mix": ({"train.mix_average": "joint"}, "train.mix_average has no effect"),
    "an unknown average": (
        {"train.mix": "mixup", "train.mix_average": "joined"},
        "did you mean 'joint'",
    ),
    "resting without a mix": ({"train.mix_off": 1}, "train.mix_off has no effect"),
    "CMO that always rests": ({"train.mix": "cmo", "train.epochs": 2}, "would have no effect"),
    "options of no augmentation": (
        {"train.augment": "none", "train.augment_options": {"strength": 0.2}},
        "train.augment_options has no effect",
    ),
    "an unknown augmentation": ({"train.augment": "nadri"}, "did you mean 'nadir'"),
    "jitter beside the augmentation's own": (
        {
            "train.objective": "supcon", "train.augment": "nadir",
            "train.objective_options": {"jitter": 0.3},
        },
        "objective_options.jitter has no effect with train.augment='nadir'",
    ),
    "the augmentation of optical images for radar": (
        {"train.augment": "nadir", "data.radar": "power"}, "for radar, choose"
    ),
    "a soup of fewer trainings": (
        {"train.soup": 3, "train.soup_ratios": [1.0, 2.0]}, "one value for each training"
    ),
    "less than balanced": (
        {"train.soup": 2, "train.soup_ratios": [0.5, 2.0]}, "must be finite and at least 1"
    ),
    "subsets that leave out nothing": (
        {"train.soup": 2, "train.soup_ratios": [10.0, 20.0]},
        "leaves out no sample: the imbalance is 10",
    ),
    "subsets of classes without labels": (
        {"train.objective": "masked", "train.soup": 2, "train.soup_ratios": [1.0, 2.0]},
        "train.soup_ratios has no effect with train.objective='masked'",
    ),
    "a sampler that a subset is too small for": (
        {
            "train.soup": 2, "train.soup_ratios": [1.0, 4.0], "train.objective": "sbcl",
            "train.objective_options": {"minimum": 20},
        },
        "no class of 6 samples or fewer is divided",
    ),
    "more than all smoothing": ({"probe.smoothing": 1.5}, r"probe.smoothing must lie in [0, 1]"),
    "no neighbour": (
        {"probe.smoothing": 0.5, "probe.neighbours": 0}, "probe.neighbours must be at least 1"
    ),
    "neighbours without smoothing": ({"probe.neighbours": 9}, "has no effect without"),
    "ordinary fine-tuning that is smoothed": (
        {"probe.loss": "own", "probe.smoothing": 0.5}, "is for a head fitted after training"
    ),
    "EnMix without an augmentation": (
        {"train.mix": "enmix-style", "train.augment": "none"}, "that is mixup"
    ),
    "labels shared under RIDE": (
        {"method": "lora+ride", "train.mix": "mixup"}, "RIDELoss is no mean of one term per row"
    ),
    "labels shared under TLC": ({"method": "lora+tlc", "train.mix": "mixup"}, "TLCLoss is no mean"),
    "labels shared under ResLT": (
        {"method": "lora+reslt", "train.mix": "mixup"}, "ResLTLoss is no mean"
    ),
    "cross-entropy re-weighted": ({"train.deferred": 0.5}, "has no re-weighted version"),
    "SADE re-weighted": (
        {"method": "lora+sade", "train.deferred": 0.5}, "SADELoss has no re-weighted version"
    ),
    "a share out of range": ({"train.loss": "ldam", "train.deferred": 1.0}, "must lie in (0, 1)"),
    "two phases of one epoch": (
        {"train.loss": "ldam", "train.deferred": 0.5, "train.epochs": 1}, "give two or more"
    ),
    "a second loss without a phase": (
        {"train.deferred_loss": "focal"}, "train.deferred_loss has no effect"
    ),
    "a second sampler without a phase": (
        {"train.deferred_sampler": "none"}, "train.deferred_sampler has no effect"
    ),
    "a second loss that is the first": (
        {"train.deferred": 0.5, "train.deferred_loss": "cross-entropy"}, "equals train.loss"
    ),
    "a second sampler that is the first": (
        {"train.deferred": 0.5, "train.deferred_sampler": "none"}, "equals train.sampler"
    ),
    "a cosine loss after another": (
        {"train.deferred": 0.5, "train.deferred_loss": "ldam"}, "needs a cosine head"
    ),
    "noise for rare classes, then an adjustment": (
        {"train.loss": "blv", "train.deferred": 0.5, "train.deferred_loss": "logit-adjusted"},
        "in opposite directions",
    ),
    "an adjustment, then noise for rare classes": (
        {"train.loss": "balanced-softmax", "train.deferred": 0.5, "train.deferred_loss": "blv"},
        "in opposite directions",
    ),
    "a loss beside the experts' own": (
        {"method": "lora+sade", "train.loss": "focal"}, "train.loss has no effect with method"
    ),
    "a loss beside ResLT's": (
        {"method": "lora+reslt", "train.loss": "focal"}, "train.loss has no effect with method"
    ),
    "an option the experts' loss lacks": (
        {"method": "lora+ride", "train.loss_options": {"tau": 1.0}}, "ride has no option 'tau'"
    ),
    "an option of the experts out of range": (
        {"method": "lora+tlc", "train.loss_options": {"engagement": 2.0}}, "engagement must lie"
    ),
    "subclasses of classes too small": (
        {"train.objective": "sbcl", "train.objective_options": {"minimum": 50}},
        "train.objective=supcon",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", BAD)
def test_what_cannot_work_is_refused_in_one_line(row):
    settings, says = BAD[row]
    with pytest.raises(ConfigError) as caught:
        check(settings)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["train.mix", "train.objective", "train.deferred"])
def test_one_adapter_a_category_takes_neither_mixes_nor_views_nor_phases(key):
    value = {"train.mix": "mixup", "train.objective": "supcon", "train.deferred": 0.5}[key]
    recipe = Recipe().override({key: value, "method": "lora"})
    plan = make_plan(recipe, methods=["clora"], probes=[], variants=[], seeds=1)
    with pytest.raises(ConfigError, match=f"{key}=.* has no effect for clora"):
        check_plan(plan, COUNTS)


# --- methods with a part of training ---


def test_a_loss_or_sampler_after_a_plus_changes_the_training_of_a_method():
    methods = ["lora", "lora+reslt", "lora+seesaw", "lora+ecm", "fine-tune+repeat-factor"]
    plan = make_plan(Recipe(), methods=methods, probes=[], variants=[], seeds=1)
    assert [(row.method, row.changes) for row in plan.adaptations] == [
        ("lora", {}), ("lora+reslt", {}), ("lora", {"train.loss": "seesaw"}),
        ("lora", {"train.loss": "effective-class-margin"}),
        ("fine-tune", {"train.sampler": "repeat-factor"}),
    ]  # fmt: skip
    assert plan.adaptations[3].recipe.train.loss == "effective-class-margin"
    assert plan.baseline_of(plan.adaptations[3]).name == "lora"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lora+seasaw", "did you mean 'seesaw'"),
        ("lara+seesaw", "did you mean 'lora'"),
        ("zero-shot+seesaw", "train.loss acts on no zero-shot"),
    ],
)
def test_a_part_that_is_unknown_or_idle_is_refused(name, says):
    with pytest.raises(ConfigError, match=says):
        make_plan(Recipe(), methods=[name], probes=[], variants=[], seeds=1)


# --- phases of the expert rows ---


@pytest.mark.parametrize(
    ("method", "epochs", "start"), [("lora+ride", 10, 8), ("lora+tlc", 3, 2), ("lora+tlc", 2, 1)]
)
def test_ride_and_tlc_are_reweighted_late_unasked(method, epochs, start):
    recipe = Recipe(method=method).override({"train.epochs": epochs})
    loss = training_loss(recipe, find_method(recipe.method).experts, COUNTS, None)
    assert (loss.start, loss.second is None) == (start, False)
    assert loss.second.class_weight.tolist() != loss.first.class_weight.tolist()


@pytest.mark.parametrize(("method", "epochs"), [("lora+sade", 10), ("lora+ride", 1), ("lora", 9)])
def test_the_others_have_one_phase(method, epochs):
    recipe = Recipe(method=method).override({"train.epochs": epochs})
    assert training_loss(recipe, find_method(recipe.method).experts, COUNTS, None).second is None


def test_expert_rows_are_methods_of_fit_and_of_compare():
    found = {name for name in compared_methods() if find_method(name).experts is not None}
    assert found == {"lora+reslt", "lora+sade", "lora+ride", "lora+tlc"}
    assert found <= set(fitted_methods())


# --- what a stage is named after, and how long it is ---


@pytest.mark.parametrize(
    ("method", "settings", "key"),
    [
        ("lora", {}, "a40258a98dd3"),
        ("deblora", {}, "1cd2a0e1d440"),
        ("lora+reslt", {}, "578a78947e05"),
        ("fine-tune", {"train.epochs": 5, "train.loss": "focal"}, "3fd746d56411"),
    ],
)
def test_stages_keep_the_names_they_had_before_there_were_these_options(method, settings, key):
    recipe = Recipe(method=method).override(settings)
    found = stage_key(recipe, method, fingerprint="f", loaded=SimpleNamespace(sha256="abc"))
    assert found == key


def test_adalora_plans_by_the_epochs_a_sampler_makes():
    labels = np.repeat([0, 1, 2], COUNTS.values)
    settings = {"method": "lora", "train.epochs": 4, "train.batch_size": 10}
    assert planned_steps(Recipe().override(settings), labels) == 4 * 8
    over = settings | {"train.sampler": "oversampling"}
    assert planned_steps(Recipe().override(over), labels) == 4 * 18
    both = over | {"train.deferred": 0.5, "train.deferred_sampler": "none"}
    assert planned_steps(Recipe().override(both), labels) == 2 * 18 + 2 * 8


@pytest.mark.parametrize(
    ("task", "method", "probe", "says"),
    [
        ("segment", "deblora", "dpt", "method 'deblora' has features of tokens alone"),
        ("change", "zero-shot", "dpt", "of task 'segment', not to 'dpt' of 'change'"),
        ("segment", "zero-shot", "conv", "upernet or vit-p of task 'segment', not to 'conv'"),
        ("classify", "lora", "cross-entropy", "not to 'cross-entropy' of 'classify'"),
    ],
)
def test_pixels_are_refused_where_no_head_sees_them(task, method, probe, says):
    recipe = Recipe().override(
        {"task": task, "method": method, "probe.loss": probe, "probe.detail": "stem"}
    )
    checks = (check_choices, partial(check_task, task=find_task(task)))
    with pytest.raises(ConfigError, match=says):
        [one(recipe) for one in checks]
