import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tailora.adapters import AdapterSpec, trained_parameters
from tailora.backbones import ModuleEncoder
from tailora.config.deblora_options import DebiasOptions
from tailora.counts import Groups
from tailora.decisions import labelled
from tailora.errors import ConfigError
from tailora.features import extract
from tailora.methods.deblora import stages
from tailora.methods.deblora.calibrate import calibrate
from tailora.methods.deblora.stages import calibrate_features, learn_calibrated
from tailora.progress import silent
from tailora.runs.weights import load_adapted, save_adapted
from tailora.train import Schedule
from tailora.train.base_adaptation import TrainingContext, adapt_to_labels, with_adapter
from tailora.train.history import StageFolder
from tailora.train.objectives import Detecting, target_objective
from tailora.train.sampling import build_sampler

CPU = torch.device("cpu")
NAMES = ("common", "some", "rare")
GROUPS = Groups(head=(0,), middle=(1,), tail=(2,))
ROWS = np.arange(4, 24)  # the first four chips are not for training
SPEC = AdapterSpec(rank=4)


class Told:
    """Progress that keeps what it is told."""

    def __init__(self):
        self.events = []

    def __call__(self, title, total):
        self.events.append((title, total))
        return self

    def __enter__(self):
        return self.events.append

    def __exit__(self, *_):
        pass


@pytest.fixture
def context(chips):
    images, _ = chips
    return TrainingContext(lambda rows: images[torch.from_numpy(rows)], Accelerator(), silent, 0)


@pytest.fixture
def zero_head(tiny_encoder):
    head = nn.utils.skip_init(nn.Linear, tiny_encoder.features, 3)
    head.weight.data.zero_()
    head.bias.data.zero_()
    return head


@pytest.fixture
def base(tiny_encoder, context, chips, zero_head):
    return stage_0(tiny_encoder, context, chips, zero_head)


def stage_0(encoder, context, chips, head, *, spec=SPEC, epochs=4, stage=None, sampler=None):
    return adapt_to_labels(
        encoder, context, ROWS, chips[1], spec=spec, schedule=Schedule(epochs, 8, 3e-3),
        loss=nn.CrossEntropyLoss(), head=head, augment="dihedral", stage=stage,
        sampler=sampler,
    )  # fmt: skip


def features(encoder, context):
    return extract(encoder, context.images, ROWS)


def found_for(encoder, context, chips, **options):
    settings = DebiasOptions(
        **{"clusters": 4, "pull": 1.0, "epochs": 6, "lr": 3e-3, "fit_on": "all", **options}
    )
    source = features(encoder, context)
    found = calibrate_features(
        settings, source, chips[1][ROWS], names=NAMES, groups=GROUPS, seed=0
    )  # fmt: skip
    return settings, source, found


@pytest.mark.parametrize(
    ("device", "asked"), [(None, None), ("cpu", None), ("cuda:1", "cuda:1"), ("mps", None)]
)
def test_samples_are_clustered_where_the_encoder_lies(monkeypatch, device, asked):
    given = {}
    monkeypatch.setattr(stages, "calibrate", lambda *_, **options: given.update(options))
    where = None if device is None else torch.device(device)
    x, y = np.zeros((6, 2)), np.arange(6) % 3
    calibrate_features(
        DebiasOptions(pull=1.0), x, y, names=NAMES, groups=GROUPS, seed=0, device=where
    )
    assert given["device"] == asked


def stage_5(plain, base, context, chips, *, spec=SPEC, **options):
    settings, source, found = found_for(base, context, chips, **options)
    learnt = learn_calibrated(
        plain, lambda: copy.deepcopy(base), context, labelled(ROWS, chips[1][ROWS]), found, source,
        options=settings, spec=spec, batch_size=8,
    )  # fmt: skip
    return learnt, found


def state(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


# --- an adapter, or everything ---


def test_a_copy_is_adapted_and_the_encoder_stays_as_it_was(tiny_encoder):
    before = state(tiny_encoder)
    adapted = with_adapter(tiny_encoder, SPEC, seed=0, total_steps=1)
    whole = with_adapter(tiny_encoder, None, seed=0, total_steps=1)
    assert same(before, state(tiny_encoder))
    assert trained_parameters(tiny_encoder) == 0
    assert trained_parameters(adapted) == 2 * 4 * (4 * 16 + 16 * 4)
    assert trained_parameters(whole) == sum(p.numel() for p in tiny_encoder.parameters())


# --- stage 0 ---


def accuracy(encoder, context, labels):
    """Nearest class mean on the features themselves."""
    x, y = features(encoder, context), labels[ROWS]
    means = np.stack([x[y == c].mean(axis=0) for c in range(3)])
    return (((x[:, None] - means) ** 2).sum(axis=2).argmin(axis=1) == y).mean()


def spread_of_classes(encoder, context, labels):
    """Variance between class means over variance within classes."""
    x, y = features(encoder, context), labels[ROWS]
    means = np.stack([x[y == c].mean(axis=0) for c in range(3)])[y]
    return ((means - x.mean(axis=0)) ** 2).sum() / ((x - means) ** 2).sum()


@pytest.mark.parametrize("spec", [SPEC, None])
def test_labels_draw_classes_apart(spec, tiny_encoder, context, chips, zero_head):
    adapted = stage_0(tiny_encoder, context, chips, zero_head, spec=spec, epochs=8)
    before = spread_of_classes(tiny_encoder, context, chips[1])
    assert spread_of_classes(adapted, context, chips[1]) > 1.2 * before
    assert not adapted.training


def test_fine_tuning_changes_the_encoder_and_an_adapter_does_not(
    tiny_encoder, context, chips, zero_head
):
    before = {n: p.detach().clone() for n, p in tiny_encoder.named_parameters()}
    tuned = dict(stage_0(tiny_encoder, context, chips, zero_head, spec=None).named_parameters())
    adapted = stage_0(tiny_encoder, context, chips, zero_head)
    assert any(not torch.equal(before[name], tuned[name]) for name in before)
    kept = {
        name.replace("base_model.model.", "").replace("base_layer.", ""): p
        for name, p in adapted.named_parameters()
        if not p.requires_grad
    }
    assert kept.keys() == before.keys()
    assert all(torch.equal(before[name], kept[name]) for name in before)


def test_the_given_head_is_a_start_and_is_not_trained_itself(
    tiny_encoder, context, chips, zero_head
):
    stage_0(tiny_encoder, context, chips, zero_head)
    assert not zero_head.weight.any()


def test_a_stage_resumed_from_its_checkpoint_gives_the_same_encoder(
    tiny_encoder, context, chips, zero_head, tmp_path, base
):
    class Interrupting(Told):
        def __enter__(self):
            def advance(done):
                self.events.append(done)
                if len(self.events) > 8:
                    raise KeyboardInterrupt

            return advance

    folder, told = StageFolder("lora", tmp_path), Told()
    with pytest.raises(KeyboardInterrupt):
        stage_0(
            tiny_encoder, TrainingContext(context.images, context.accelerator, Interrupting(), 0),
            chips, zero_head, stage=folder,
        )  # fmt: skip
    resumed = stage_0(
        tiny_encoder, TrainingContext(context.images, context.accelerator, told, 0),
        chips, zero_head, stage=folder,
    )  # fmt: skip
    assert same(state(base), state(resumed))
    # 20 rows in batches of 8: 3 steps an epoch; the bar jumps over the two epochs that are done
    assert told.events == [("adapting to labels", 12), 7, 1, 1, 1, 1, 1]


def test_a_sampler_says_which_rows_stage_0_reads_and_how_long_its_bar_is(
    tiny_encoder, context, chips, zero_head
):
    """14 - 4 = 10 rows of the largest class, 7 and 3: undersampled to 3 of each."""
    sampler = build_sampler(
        "undersampling", chips[1][ROWS], batch_size=8, epochs=2, seed=0, options={}
    )
    read, told = [], Told()

    def images(rows):
        read.extend(rows.tolist())
        return context.images(rows)

    watched = TrainingContext(images, context.accelerator, told, 0)
    sampled = stage_0(tiny_encoder, watched, chips, zero_head, epochs=2, sampler=sampler)
    assert np.bincount(chips[1][read]).tolist() == [6, 6, 6]
    assert set(read) <= set(ROWS)
    assert told.events[0] == ("adapting to labels", 2 * 2)
    plain = stage_0(tiny_encoder, context, chips, zero_head, epochs=2)
    assert not same(state(sampled), state(plain))


# --- stages 2-4 ---


def test_classes_to_calibrate_are_given_by_name(base, context, chips):
    _, _, found = found_for(base, context, chips, calibrate=["rare", "common"])
    assert found.moved == (0, 2)


def test_a_class_to_calibrate_that_does_not_exist_names_the_nearest(base, context, chips):
    with pytest.raises(
        ConfigError, match=r"unknown class in deblora.calibrate 'rares'; did you mean 'rare'\?"
    ):
        found_for(base, context, chips, calibrate=["rares"])


def test_options_of_centres_and_moves_reach_the_calibration(base, context, chips):
    options = {"clusters": 1, "center_samples": "balanced", "move": "sample", "pull": 0.5}
    _, source, found = found_for(base, context, chips, **options)
    by_hand = calibrate(
        source, chips[1][ROWS], clusters=1, pull=0.5, groups=GROUPS,
        center_samples="balanced", move="sample",
    )  # fmt: skip
    assert np.array_equal(found.features, by_hand.features)
    _, _, usual = found_for(base, context, chips, clusters=1, pull=0.5)
    assert not np.allclose(found.centers, usual.centers)


# --- stage 5 ---


@pytest.mark.parametrize("options", [{"pull": 0.0}, {"pull": "adaptive"}, {"calibrate": []}])
def test_when_nothing_moves_the_base_itself_is_the_result(
    options, tiny_encoder, context, chips, zero_head
):
    """Also under dropout, whose noise would make an optimiser wander off a loss of zero."""
    spec = AdapterSpec(rank=4, options={"lora_dropout": 0.3})
    base = stage_0(tiny_encoder, context, chips, zero_head, spec=spec)
    learnt, found = stage_5(tiny_encoder, base, context, chips, spec=spec, **options)
    assert np.array_equal(found.features, features(base, context))
    assert same(state(learnt), state(base))


@pytest.mark.parametrize("epochs", [2, 0])
def test_a_detector_learns_along_from_all_images_as_they_are(
    epochs, base, tiny_encoder, context, chips
):
    """Targets of the rarest class alone; without epochs the detector stays with its adapter."""
    seen, turned = [], []

    def losses(detector, features, _data, samples, turns):
        seen.extend(samples.tolist())
        turned.append(turns)
        return {"box": (detector(features) - 1).square().mean()}

    options = {"epochs": epochs, "fit_on": "tail", "head": "targets"}
    settings, source, found = found_for(base, context, chips, **options)
    detector = nn.utils.skip_init(nn.Linear, source.shape[1], 1)
    detector.requires_grad_(requires_grad=False).weight.zero_()
    detector.bias.zero_()
    detector.requires_grad_(requires_grad=True)
    before = state(detector)
    learnt = learn_calibrated(
        tiny_encoder, lambda: copy.deepcopy(base), context, labelled(ROWS, chips[1][ROWS]), found,
        source, options=settings, spec=SPEC, batch_size=8,
        rows_of=SimpleNamespace(model=lambda encoder: encoder, detector_losses=losses),
        detecting=Detecting(detector, SimpleNamespace(indices=lambda _: ROWS)),
    )  # fmt: skip
    assert (found.keep[chips[1][ROWS]] < 1).sum() < len(ROWS)
    assert sorted(seen) == sorted(epochs * ROWS.tolist())
    assert set(turned) <= {None}
    assert same(before, state(detector)) == same(state(base), state(learnt)) == (epochs == 0)


def test_at_the_bases_weights_the_loss_of_unmoved_features_is_zero(base, context, chips):
    _, source, found = found_for(base, context, chips, pull=0.0)
    targets = torch.zeros(24, source.shape[1])
    targets[ROWS] = torch.from_numpy(found.features)
    objective = target_objective(
        base, context.images, targets, torch.from_numpy(source.std(axis=0)), device=CPU
    )
    with torch.inference_mode():
        assert objective(ROWS, np.random.default_rng(0)).item() == 0
        assert objective(ROWS[3:9], np.random.default_rng(0)).item() < 1e-10


def test_targets_are_seen_in_units_of_the_features_before_they_moved(
    base, tiny_encoder, context, chips, monkeypatch
):
    """Moved classes have shrunk: their own spread would make what is left to do look larger."""
    given = {}

    def watching(_encoder, _images, targets, scale, **options):
        given.update(targets=targets, scale=scale, mean=options["mean"])

    monkeypatch.setattr(stages, "target_objective", watching)
    monkeypatch.setattr(stages, "run_training", lambda *_: None)
    monkeypatch.setattr(stages, "alone", lambda *_: None)
    _, found = stage_5(tiny_encoder, base, context, chips, clusters=1, calibrate="all")
    source = features(base, context).astype(np.float64)
    moved = found.features.astype(np.float64)
    np.testing.assert_allclose(given["scale"], source.std(axis=0), rtol=1e-4)
    np.testing.assert_allclose(given["mean"], source.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(given["targets"], moved, rtol=1e-5)
    assert (moved.std(axis=0) < 0.5 * source.std(axis=0)).all()


def test_angles_of_targets_are_seen_from_the_mean_before_anything_moved(
    base, tiny_encoder, context, chips, monkeypatch
):
    given = {}
    monkeypatch.setattr(stages, "target_objective", lambda *_, **options: given.update(options))
    monkeypatch.setattr(stages, "run_training", lambda *_: None)
    monkeypatch.setattr(stages, "alone", lambda *_: None)
    _, found = stage_5(tiny_encoder, base, context, chips, clusters=1, move="shift")
    source = features(base, context).astype(np.float64)
    np.testing.assert_allclose(given["mean"], source.mean(axis=0), rtol=1e-4, atol=1e-6)
    gap = np.abs(found.features.mean(axis=0) - source.mean(axis=0)) / source.std(axis=0)
    assert gap.max() > 0.05


def distances(encoder, context, found, source):
    """Squared distances to the targets in units of spread."""
    return ((features(encoder, context) - found.features) / source.std(axis=0)) ** 2


@pytest.mark.parametrize("init", ["from-base", "fresh"])
def test_rare_features_land_nearer_to_their_targets(init, base, tiny_encoder, context, chips):
    learnt, found = stage_5(tiny_encoder, base, context, chips, init=init, clusters=1, epochs=12)
    source, moved = features(base, context), chips[1][ROWS] == 2
    before = distances(base, context, found, source)
    after = distances(learnt, context, found, source)
    assert before[moved].mean() > 1
    assert after[moved].mean() < 0.7 * before[moved].mean()
    assert after[~moved].mean() < 0.02
    assert not learnt.training


def test_samples_that_do_not_move_are_held_where_they_are(base, tiny_encoder, context, chips):
    options = {"clusters": 1, "epochs": 8}
    held, found = stage_5(tiny_encoder, base, context, chips, **options)
    free, _ = stage_5(tiny_encoder, base, context, chips, **options, fit_on="tail")
    source, moved = features(base, context), chips[1][ROWS] == 2
    drift = [distances(e, context, found, source)[~moved].mean() for e in (held, free)]
    assert drift[0] < 0.2 * drift[1]


def rows_read(base, tiny_encoder, context, chips, *, pulls=None, **options):
    """Calibration and the rows that stage 5 reads, under chosen pulls if they are given."""
    settings, source, found = found_for(base, context, chips, **options)
    labels, read = chips[1][ROWS], []
    if pulls is not None:
        found = calibrate_features(
            settings, source, labels, names=NAMES, groups=GROUPS, seed=0, pull=pulls
        )

    def images(rows):
        read.extend(rows.tolist())
        return context.images(rows)

    learn_calibrated(
        tiny_encoder, lambda: copy.deepcopy(base),
        TrainingContext(images, context.accelerator, silent, 0), labelled(ROWS, labels), found,
        source,
        options=settings, spec=SPEC, batch_size=8,
    )  # fmt: skip
    return found, set(read)


@pytest.mark.parametrize(("fit_on", "expected"), [("tail", {21, 22, 23}), ("all", set(ROWS))])
def test_only_the_rows_of_moved_classes_are_read_when_asked(
    fit_on, expected, base, tiny_encoder, context, chips
):
    assert rows_read(base, tiny_encoder, context, chips, fit_on=fit_on)[1] == expected


def test_calibrated_classes_that_keep_all_of_themselves_are_not_learnt_from(
    base, tiny_encoder, context, chips
):
    """Their loss is zero: of three calibrated classes only the one that moves counts."""
    options = {"calibrate": "all", "fit_on": "tail", "pulls": [0, 0, 1.0]}
    found, read = rows_read(base, tiny_encoder, context, chips, **options)
    assert found.moved == (0, 1, 2)
    assert read == {21, 22, 23}


def test_a_fresh_adapter_learns_from_all_rows_where_nothing_moves(
    base, tiny_encoder, context, chips
):
    """The classes are less than ten to one, so that the adaptive pull keeps them where they are."""
    found, read = rows_read(
        base, tiny_encoder, context, chips, pull="adaptive", fit_on="tail", init="fresh", epochs=1
    )
    assert (found.keep == 1).all()
    assert read == set(ROWS)


@pytest.mark.parametrize("regression", ["cosine", "smooth-l1"])
def test_the_chosen_regression_is_what_stage_5_lowers(
    regression, base, tiny_encoder, context, chips
):
    options = {
        "clusters": 1,
        "epochs": 12,
        "regression": regression,
        "fit_on": "tail",
        "move": "shift",
    }
    learnt, found = stage_5(tiny_encoder, base, context, chips, **options)
    source, moved = features(base, context), ROWS[chips[1][ROWS] == 2]
    targets = torch.zeros(24, source.shape[1])
    targets[ROWS] = torch.from_numpy(found.features)
    values = {}
    for name, encoder in (("before", base), ("after", learnt)):
        objective = target_objective(
            encoder, context.images, targets, torch.from_numpy(source.std(axis=0)), device=CPU,
            mean=torch.from_numpy(source.mean(axis=0)), regression=regression,
        )  # fmt: skip
        with torch.inference_mode():
            values[name] = objective(moved, np.random.default_rng(0)).item()
    assert values["after"] < 0.85 * values["before"]
    squared, _ = stage_5(tiny_encoder, base, context, chips, **{**options, "regression": "squared"})
    assert not same(state(learnt), state(squared))


def test_a_fresh_adapter_is_not_the_base_adapters_start(tiny_encoder, base, context, chips):
    fresh, _ = stage_5(tiny_encoder, base, context, chips, init="fresh", epochs=1, lr=1e-12)
    np.testing.assert_allclose(
        features(fresh, context), features(tiny_encoder, context), atol=1e-4
    )  # fmt: skip
    first = state(with_adapter(tiny_encoder, SPEC, seed=0, total_steps=1))
    drawn = [name for name in first if "lora_A" in name]
    assert len(drawn) == 8
    assert not any(torch.allclose(state(fresh)[n], first[n], atol=1e-6) for n in drawn)


@pytest.mark.parametrize("epochs", [1, 6])
def test_adalora_keeps_its_ranks_when_it_learns_on(
    epochs, tiny_encoder, context, chips, zero_head, tmp_path
):
    spec = AdapterSpec("adalora", rank=4)
    base = stage_0(tiny_encoder, context, chips, zero_head, spec=spec)
    save_adapted(base, tmp_path)
    settings, source, found = found_for(base, context, chips, epochs=epochs)
    for make in (
        lambda: load_adapted(tiny_encoder, tmp_path, trainable=True),
        lambda: copy.deepcopy(base),
    ):
        learnt = learn_calibrated(
            tiny_encoder, make, context, labelled(ROWS, chips[1][ROWS]), found, source,
            options=settings, spec=spec, batch_size=8,
        )  # fmt: skip
        assert ranks(learnt) == ranks(base)
        assert sum(ranks(base)) == 2 * 8
        assert not np.allclose(features(learnt, context), features(base, context), atol=1e-4)


def ranks(encoder):
    """How many ranks of AdaLoRA each layer uses."""
    values = [p for name, p in encoder.named_parameters() if ".lora_E." in name]
    return [int(p.count_nonzero()) for p in values]


def test_a_constant_feature_does_not_rule_the_loss(context, chips):
    """What varies by rounding alone is compared in its own unit, not divided by its spread.

    Here it is a bias that the adapter learns along with the rest.
    """

    class WithConstant(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.utils.skip_init(nn.Linear, 3, 3)
            self.linear.weight.data.copy_(torch.eye(3))
            self.linear.bias.data.zero_()

        def forward(self, images):
            rows = self.linear(images.float().mean(dim=(2, 3)) / 100)
            bias = self.linear(torch.ones(1, 3))[:, :1]
            return torch.cat([rows, bias * (1 + 2e-7 * (rows[:, :1] > 1))], dim=1)

    plain = ModuleEncoder(WithConstant(), features=4)
    spec = AdapterSpec(rank=2, targets=["linear"])
    start = with_adapter(plain, spec, seed=0, total_steps=1)
    learnt, found = stage_5(
        plain, start, context, chips, spec=spec, clusters=1, epochs=20, lr=3e-2
    )  # fmt: skip
    source, moved = features(start, context)[:, :3], chips[1][ROWS] == 2
    gaps = [
        (((features(e, context)[:, :3] - found.features[:, :3]) / source.std(axis=0)) ** 2)[moved]
        for e in (start, learnt)
    ]
    assert gaps[1].mean() < 0.7 * gaps[0].mean()
