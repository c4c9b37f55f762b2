import numpy as np
import pytest
import torch
from torch import nn

from tailora.counts import ClassCounts, Groups
from tailora.errors import BackboneError, ConfigError, DataError
from tailora.features import extract
from tailora.heads.linear_probe import fit_linear_probe, predict_logits
from tailora.losses import LogitAdjustedLoss
from tailora.methods.deblora.deblora import DebLoRA
from tailora.methods.deblora.stages import calibrate_features, learn_calibrated
from tailora.runs.weights import load_adapted, save_adapted

MOVES = {"clusters": 4, "pull": 1.0, "epochs": 3, "lr": 3e-3}


class Plain(nn.Module):
    """Any module at all: dropout and batch norm inside, features of eight numbers."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.utils.skip_init(nn.Linear, 3 * 14 * 14, 12)
        self.norm = nn.BatchNorm1d(12)
        self.dropout = nn.Dropout(0.2)
        self.last = nn.utils.skip_init(nn.Linear, 12, 8)
        for layer in (self.first, self.last):
            shape = layer.weight.shape
            layer.weight.data.copy_(torch.randn(shape, generator=generator) / shape[1] ** 0.5)
            layer.bias.data.zero_()

    def forward(self, images):
        rows = self.first(images.flatten(1).float() / 128 - 1)
        return self.last(self.dropout(self.norm(rows)).tanh())


def fit(method, encoder, chips, **options):
    images, labels = chips
    return method.fit(encoder, images, labels, **{"base_epochs": 2, "batch_size": 8, **options})


def features(encoder, images):
    return extract(encoder, lambda rows: images[torch.from_numpy(rows)], np.arange(len(images)))


def state(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def plain_name(name):
    for part in ("backbone.", "base_model.model.", "base_layer."):
        name = name.replace(part, "")
    return name


def test_without_imbalance_above_ten_the_result_is_the_base_to_the_bit(tiny_encoder, chips):
    """14 : 7 : 3 is an imbalance below five."""
    result = fit(DebLoRA(rank=2, clusters=4), tiny_encoder, chips)
    assert result.calibration.keep.tolist() == [1, 1, 1]
    assert torch.equal(result.encoder(chips[0]), result.base(chips[0]))
    assert np.array_equal(result.calibration.features, features(result.base, chips[0]))


def test_adaptive_pull_moves_a_class_of_more_imbalance(chips):
    images, labels = chips
    rows = [*range(21), 23]  # one sample of the rarest class: 14 : 7 : 1
    result = DebLoRA(rank=2, targets=["first", "last"], clusters=4, epochs=1).fit(
        Plain(), images[rows], labels[rows], base_epochs=1
    )
    np.testing.assert_allclose(result.calibration.keep, [1, 1, 10 / 14])
    assert not torch.equal(result.encoder(images), result.base(images))


@pytest.mark.parametrize("make", [Plain, None])
def test_rare_features_move_towards_their_targets(make, tiny_encoder, chips):
    images, labels = chips
    encoder = tiny_encoder if make is None else make()
    targets = ["first", "last"] if make else []
    method = DebLoRA(clusters=1, pull=1.0, epochs=12, lr=3e-3, rank=4, targets=targets)
    result = fit(method, encoder, chips)
    rare, aims = labels == 2, result.calibration.features
    before, after = (
        ((features(e, images) - aims)[rare] ** 2).mean() for e in (result.base, result.encoder)
    )
    assert after < 0.95 * before
    assert np.allclose(aims[rare], features(result.base, images).mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_given_encoder_is_not_changed_by_a_bit_nor_in_its_mode(training, chips):
    encoder = Plain().train(training)
    before = state(encoder)
    fit(DebLoRA(**MOVES, rank=2, targets=["first", "last"]), encoder, chips)
    after = state(encoder)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert encoder.training is encoder.norm.training is training
    assert all(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize("make", [Plain, None])
def test_weights_and_running_means_beneath_the_adapter_stay_pretrained(make, tiny_encoder, chips):
    encoder = tiny_encoder if make is None else make()
    before = {plain_name(name): value for name, value in state(encoder).items()}
    result = fit(DebLoRA(**MOVES, rank=2, targets=[] if make is None else ["last"]), encoder, chips)
    for model in (result.base, result.encoder):
        kept = {plain_name(n): v for n, v in state(model).items() if "lora_" not in n}
        assert kept.keys() == before.keys()
        assert all(torch.equal(before[name], kept[name]) for name in before)


def test_what_comes_back_is_ready_to_predict(chips):
    result = fit(DebLoRA(**MOVES, rank=2, targets=["last"]), Plain(), chips)
    images = chips[0]
    for model in (result.encoder, result.base):
        assert not model.training
        assert torch.equal(model(images), model(images))
    with torch.inference_mode():
        by_hand = result.head(result.encoder(images)).numpy()
    found = predict_logits(result.head, features(result.encoder, images))
    np.testing.assert_allclose(found, by_hand, atol=1e-5)
    assert by_hand.shape == (24, 3)


@pytest.mark.parametrize("tuner", ["lora", "dora", "loha", "ia3", "vera", "adalora"])
def test_it_works_with_other_tuners_and_the_saved_adapter_gives_the_same_features(
    tuner, tiny_encoder, chips, tmp_path
):
    images, _ = chips
    result = fit(DebLoRA(**MOVES, tuner=tuner), tiny_encoder, chips)
    adapted = features(result.encoder, images)
    assert not np.array_equal(adapted, features(result.base, images))
    assert not np.array_equal(adapted, features(tiny_encoder, images))
    save_adapted(result.encoder, tmp_path)
    assert np.array_equal(features(load_adapted(tiny_encoder, tmp_path), images), adapted)


def test_options_of_the_tuner_reach_it(chips):
    method = DebLoRA(
        **MOVES, rank=3, targets=["last"], tuner_options={"lora_alpha": 1, "lora_dropout": 0.1}
    )
    config = fit(method, Plain(), chips).encoder.backbone.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 1, 0.1)


def test_the_pretrained_space_can_be_de_biased_instead(tiny_encoder, chips):
    images, labels = chips
    result = fit(DebLoRA(**MOVES, rank=2, source="pretrained"), tiny_encoder, chips)
    others = labels != 2
    pretrained = features(tiny_encoder, images)
    assert np.array_equal(result.calibration.features[others], pretrained[others])
    adapted = fit(DebLoRA(**MOVES, rank=2), tiny_encoder, chips)
    assert not np.array_equal(adapted.calibration.features[others], pretrained[others])


def test_equal_seeds_give_equal_results_and_other_seeds_others(chips):
    method = DebLoRA(**MOVES, rank=2, targets=["last"])
    runs = [fit(method, Plain(), chips, seed=seed).encoder for seed in (1, 1, 2)]
    out = [run(chips[0]) for run in runs]
    assert torch.equal(out[0], out[1])
    assert not torch.equal(out[0], out[2])


def test_groups_say_who_the_tail_is(chips):
    groups = Groups(head=(1, 2), middle=(), tail=(0,))
    result = fit(DebLoRA(**MOVES, rank=2, targets=["last"]), Plain(), chips, groups=groups)
    assert result.calibration.moved == (0,)


def test_samples_need_not_be_images_when_they_are_not_turned(chips):
    images, labels = chips
    encoder = nn.Sequential(nn.utils.skip_init(nn.Linear, 588, 6))
    encoder[0].weight.data.fill_(0.01)
    encoder[0].weight.data[2:] = torch.eye(588)[:4]
    encoder[0].bias.data.zero_()
    rows = images.flatten(1).float() / 255
    result = DebLoRA(**MOVES, rank=2).fit(
        encoder, rows, labels, augment="none", base_epochs=1, batch_size=8
    )
    assert result.encoder(rows).shape == (24, 6)


def test_progress_is_told_of_every_stage(chips):
    titles = []

    class Show:
        def __init__(self, title, total):
            titles.append((title, total))

        def __enter__(self):
            return [].append

        def __exit__(self, *_):
            pass

    fit(DebLoRA(**MOVES, rank=2, targets=["last"], fit_on="all"), Plain(), chips, progress=Show)
    assert ("adapting to labels", 2 * 3) in titles
    assert ("learning the moved features", 3 * 3) in titles


# --- rounds, validation, and what the head learns from ---


@pytest.mark.parametrize(
    "options",
    [{}, {"init": "fresh"}, {"source": "pretrained"}, {"tuner": "adalora"}],
)
def test_a_round_de_biases_the_features_of_the_round_before(options, tiny_encoder, chips):
    images, labels = chips
    one, two = (
        fit(DebLoRA(**MOVES, **options, rounds=rounds), tiny_encoder, chips) for rounds in (1, 2)
    )
    others, between = labels != 2, features(one.encoder, images)
    assert np.array_equal(two.calibration.features[others], between[others])
    assert not np.array_equal(one.calibration.features[others], between[others])
    assert torch.equal(one.base(images), two.base(images))
    assert not torch.equal(one.encoder(images), two.encoder(images))


def test_each_round_starts_from_the_adapter_of_the_round_before(chips, monkeypatch):
    images, starts, ends = chips[0], [], []

    def watching(encoder, base, *args, **options):
        starts.append(features(base(), images))
        learnt = learn_calibrated(encoder, base, *args, **options)
        ends.append(features(learnt, images))
        return learnt

    monkeypatch.setattr("tailora.methods.deblora.deblora.learn_calibrated", watching)
    result = fit(DebLoRA(**MOVES, rank=2, targets=["last"], rounds=3), Plain(), chips)
    assert np.array_equal(starts[0], features(result.base, images))
    assert np.array_equal(starts[1], ends[0])
    assert np.array_equal(starts[2], ends[1])
    assert not np.array_equal(starts[1], starts[0])


def test_a_second_round_may_start_fresh(chips):
    """At a rate of almost nothing an adapter stays where it starts: at nothing."""
    options = {**MOVES, "lr": 1e-9, "rank": 2, "targets": ["last"]}
    fresh = fit(DebLoRA(**options, rounds=2, init="fresh"), Plain(), chips)
    plain = Plain().eval()(chips[0]).detach().numpy()
    np.testing.assert_allclose(features(fresh.encoder, chips[0]), plain, atol=1e-5)


def test_pulls_are_chosen_by_the_validation_images_in_the_space_that_is_clustered(chips):
    images, labels = chips
    rows = np.r_[0:10, 14:19, 21:23]
    rest = np.setdiff1d(np.arange(24), rows)
    method = DebLoRA(
        clusters=4, pull="validation", calibrate="all", rank=2, targets=["last"], epochs=1
    )
    result = method.fit(
        Plain(), images[rows], labels[rows], base_epochs=1, batch_size=8,
        validation=(images[rest], labels[rest]),
    )  # fmt: skip
    by_hand = calibrate_features(
        method, features(result.base, images[rows]), labels[rows], names=("0", "1", "2"),
        groups=Groups(head=(0,), middle=(1,), tail=(2,)), seed=0,
        validation=(features(result.base, images[rest]), labels[rest]),
    )  # fmt: skip
    assert np.array_equal(result.calibration.features, by_hand.features)


def test_without_validation_images_a_choice_by_them_is_refused_before_training(chips):
    def trained(*_):
        raise AssertionError("something was trained")

    with pytest.raises(ConfigError, match=r"pull='validation' needs validation samples"):
        fit(DebLoRA(pull="validation", clusters=4), Plain(), chips, progress=trained)


def test_the_head_learns_from_features_targets_or_both(chips):
    images, labels = chips
    results = {
        head: fit(DebLoRA(**MOVES, rank=2, targets=["last"], head=head), Plain(), chips)
        for head in ("features", "targets", "both")
    }
    counts = ClassCounts.from_labels(labels, names="012")
    own = features(results["both"].encoder, images)
    aims = results["both"].calibration.features
    for head, rows in (("features", [own]), ("targets", [aims]), ("both", [own, aims])):
        expected = fit_linear_probe(
            np.concatenate(rows), np.tile(labels, len(rows)), loss=LogitAdjustedLoss(counts),
            num_classes=3, l2=1e-2,
        ).linear  # fmt: skip
        torch.testing.assert_close(results[head].head.weight, expected.weight)


# --- refusals ---


def test_an_encoder_that_gives_no_feature_vector_is_refused(chips):
    class Maps(nn.Module):
        def forward(self, images):
            return images.float()

    class Named(nn.Module):
        def forward(self, images):
            return {"features": images}

    with pytest.raises(BackboneError, match=r"returned \(1, 3, 14, 14\) where \(batch, features\)"):
        fit(DebLoRA(**MOVES), Maps(), chips)
    with pytest.raises(BackboneError, match=r"returned 'dict' where \(batch, features\)"):
        fit(DebLoRA(**MOVES), Named(), chips)


@pytest.mark.parametrize(
    ("take", "labels", "message"),
    [
        (24, [0] * 23, "24 images but 23 labels"),
        (0, [], "0 images but 0 labels"),
        (3, [0.0, 1.0, 2.0], "labels must be integers, got float64"),
        (3, [0, 1, -1], r"labels must lie in"),
    ],
)
def test_labels_that_do_not_fit_the_images_are_refused(take, labels, message, chips):
    with pytest.raises(DataError, match=message):
        DebLoRA(clusters=1, pull=1.0).fit(Plain(), chips[0][:take], np.array(labels))


def test_a_class_without_samples_is_named(chips):
    images, labels = chips
    with pytest.raises(DataError, match=r"classes \['1'\] have no training sample"):
        fit(DebLoRA(**MOVES), Plain(), (images, np.where(labels == 1, 0, labels)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 25}, "25 clusters need as many images, got 24"),
        ({"tuner": "lorra"}, "unknown tuner 'lorra'"),
        ({"targets": ["lost"]}, "unknown adapter target 'lost'; did you mean 'last'"),
        ({"calibrate": ["rare"]}, "unknown class in deblora.calibrate 'rare'"),
    ],
)
def test_options_that_do_not_fit_the_data_or_the_encoder_are_refused(options, message, chips):
    with pytest.raises(ConfigError, match=message):
        fit(DebLoRA(**{**MOVES, **options}), Plain(), chips)


@pytest.mark.parametrize("shape", [(24, 3, 14, 12), (24, 588)])
def test_what_is_not_square_cannot_be_turned(shape, chips):
    images = torch.zeros(shape)
    with pytest.raises(ConfigError, match=r"augment 'nadir' rotates square images"):
        DebLoRA(**MOVES).fit(Plain(), images, chips[1])
    with pytest.raises(ConfigError, match=r"augment 'dihedral' rotates square images"):
        DebLoRA(**MOVES).fit(Plain(), images, chips[1], augment="dihedral")
