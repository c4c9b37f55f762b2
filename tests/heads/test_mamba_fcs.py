"""The decoder of Mamba-FCS: its parts by NumPy and SciPy, and what it promises about two dates."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate, correlate1d
from scipy.special import expit

from tailora.config.probe_choice import parse_probe
from tailora.counts import ClassCounts, make_groups
from tailora.errors import ConfigError
from tailora.heads.mamba_fcs import (
    ChannelGate,
    JointFusion,
    MambaFCSHead,
    SpatialGate,
    gate_side,
    log_amplitude,
)
from tailora.heads.probe import Maps, ProbeData, check_kept
from tailora.heads.probes import find_probe
from tailora.losses.mamba_fcs import MambaFCSLoss
from tailora.methods.checks import check_probe
from tailora.runs.weights import HeadFacts, load_head, save_head
from tailora.tasks.change import in_both_orders, transition_logits
from tailora.transitions import parse_transitions

CLASSES = ("a → a", "b → b", "a → b", "b → a")
FOUND = parse_transitions(CLASSES)
WIDTH, ROWS, COLUMNS = 2, 5, 3
OPTIONS = {"channels": 8, "epochs": 15, "rate": 0.02}


@pytest.fixture
def _first_weights():
    """Draw them without a trace."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


with_first_weights = pytest.mark.usefixtures("_first_weights")


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def as_torch(values):
    return torch.from_numpy(np.asarray(values, dtype="f"))


@pytest.mark.parametrize("size", [(5, 3), (4, 6), (1, 7)])
def test_log_amplitudes_are_those_of_numpy(size):
    maps = 3 * numbers(2, 4, *size)
    expected = np.log1p(np.abs(np.fft.fft2(maps)) / np.sqrt(size[0] * size[1]))
    np.testing.assert_allclose(log_amplitude(torch.from_numpy(maps)), expected, rtol=1e-12)
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = log_amplitude(as_torch(maps).bfloat16())
        assert found.dtype == torch.bfloat16
        np.testing.assert_allclose(found.float(), expected, atol=0.03)


@with_first_weights
def test_the_gates_weigh_channels_and_places():
    maps = numbers(2, 8, 9, 4)
    channel, spatial = ChannelGate(8), SpatialGate()
    with torch.no_grad():
        found = channel(as_torch(maps)), spatial(as_torch(maps))
    side = channel.mix.weight[0, 0].detach().numpy()
    gate = correlate1d(maps.mean(axis=(2, 3)), side, axis=1, mode="constant")
    np.testing.assert_allclose(found[0], maps * expit(gate)[..., None, None], atol=1e-5)
    kernels = spatial.mix.weight[0].detach().numpy()
    seen = np.stack([maps.max(axis=1), maps.mean(axis=1)], axis=1)
    gate = sum(correlate(seen[:, i], kernels[None, i], mode="constant") for i in range(2))
    np.testing.assert_allclose(found[1], maps * expit(gate)[:, None], atol=1e-5)
    assert [gate_side(c) for c in (8, 64, 128, 256, 512, 1024)] == [3, 3, 5, 5, 5, 5]


@with_first_weights
def test_frequencies_of_each_date_are_fused_after_both_and_their_difference():
    """1 x 1 convolutions, normalised over a map in eight groups, by einsum."""
    first, second, apart = (numbers(2, 8, 5, 3, seed=seed) for seed in range(3))
    fusion = JointFusion(8, frequency=True)
    fusion.gates = torch.nn.Identity()

    def pointwise(layer, maps):
        mixed = np.einsum("oc,nchw->nohw", layer[0].weight.detach().numpy()[..., 0, 0], maps)
        mean, spread = (f(mixed, axis=(2, 3), keepdims=True) for f in (np.mean, np.var))
        return np.maximum(0, (mixed - mean) / np.sqrt(spread + 1e-5))  # a channel is a group

    textures = [
        pointwise(layer, np.log1p(np.abs(np.fft.fft2(date, norm="ortho"))))
        for layer, date in zip(fusion.frequencies, (first, second), strict=True)
    ]
    expected = pointwise(fusion.mix, np.concatenate([first, second, apart, *textures], axis=1))
    with torch.no_grad():
        found = fusion(*(as_torch(maps) for maps in (first, second, apart)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@with_first_weights
@pytest.mark.parametrize("guided", [True, False])
def test_change_guides_the_land_cover_of_both_dates(guided):
    """With residual blocks that add nothing, the head is its formula."""
    head = MambaFCSHead(3 * WIDTH, 4, 8, guided=guided, frequency=True)
    with torch.no_grad():
        for block in (head.change, head.land):
            block.layers[-1].weight.zero_()
            block.layers[-1].bias.zero_()
        head.decide.weight.copy_(as_torch(numbers(4, 24)))
        features = as_torch(numbers(2, ROWS, COLUMNS, 3 * WIDTH))
        first, second, apart = features.movedim(-1, 1).chunk(3, dim=1)
        dates = head.date(first), head.date(second)
        change = head.fusion(*dates, head.apart(apart)).numpy()
        found = head(features).numpy()
        with torch.autocast("cpu", torch.bfloat16):
            rough = head(features).float().numpy()
    gate = expit(change) if guided else np.ones_like(change)
    parts = np.concatenate([date.numpy() * gate for date in dates] + [change], axis=1)
    expected = np.einsum("kc,nchw->nhwk", head.decide.weight.detach().numpy(), parts)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(rough, expected, atol=0.3)


def draw(seed, pairs):
    """Cells of two land covers; a third of the places changes, and light differs between dates."""
    rng = np.random.default_rng(seed)
    before = rng.integers(0, 2, (pairs, ROWS, COLUMNS))
    after = np.where(rng.random(before.shape) < 0.3, 1 - before, before)
    dates = [
        np.stack([4.0 * cover, 2.0 * cover], axis=-1)
        + rng.normal(scale=0.4, size=(*cover.shape, WIDTH))
        for cover in (before, after)
    ]
    features = torch.from_numpy(np.concatenate([*dates, abs(dates[0] - dates[1])], axis=-1))
    own = np.array([[0, 2], [3, 1]])[before, after]
    targets = np.stack([own, FOUND.inverse[own]], axis=1).astype(np.int16)
    return Maps(in_both_orders(features).numpy().astype(np.float16), targets)


@pytest.fixture(scope="module")
def data():
    train, val = draw(0, 48), draw(1, 16)
    rows = [(maps.features.reshape(-1, 3 * WIDTH).astype("f"), maps.targets.ravel().astype(int))
            for maps in (train, val)]  # fmt: skip
    counts = ClassCounts.from_labels(rows[0][1], names=CLASSES)
    return ProbeData(
        *rows[0], *rows[1], counts, make_groups(counts), lambda t, p: float((t == p).mean()),
        l2=(0.01,), maps=train, val_maps=val,
    )  # fmt: skip


@pytest.fixture(scope="module")
def head(data):
    return find_probe("mamba-fcs").fit(data, OPTIONS)


def said(head, features):
    with torch.inference_mode():
        return head(torch.from_numpy(np.asarray(features, dtype="f"))).numpy()


def test_swapped_dates_have_swapped_transitions_whatever_the_batch(head, data):
    features, truth = data.val_maps.features, data.val_maps.targets
    every = said(head, features)
    assert (every.argmax(axis=-1) == truth).mean() > 0.95
    for pair, logits in zip(features, every, strict=True):
        orders = np.stack([said(head, one[None])[0] for one in pair])
        np.testing.assert_allclose(orders, logits, atol=1e-4)
        there, back = (transition_logits(both, (9, 7), FOUND) for both in (orders, orders[::-1]))
        assert torch.equal(there, back[FOUND.inverse])
    weight = head.decide.weight.detach()
    assert torch.equal(weight[0, :8], weight[2, :8])  # one land cover, at either date
    assert torch.equal(weight[0, :8], weight[3, 8:16])


def test_equal_dates_are_changed_nowhere_that_the_factored_head_calls_unchanged(head, data):
    date = data.val_maps.features[..., :WIDTH]
    same = np.concatenate([date, date, 0 * date], axis=-1)
    assert not FOUND.changed[said(head, same).argmax(axis=-1)].any()


def test_a_saved_head_is_the_same(head, data, tmp_path):
    maps = data.val_maps.features
    options = {"channels": 8, "guided": False, "frequency": False, "epochs": 1}
    for i, (one, own) in enumerate(
        [(head, OPTIONS), (find_probe("mamba-fcs").fit(data, options), options)]
    ):
        path = tmp_path / f"{i}.safetensors"
        save_head(one, path, HeadFacts("mamba-fcs", own, 3 * WIDTH, 4))
        read = load_head(path, classes=4, features=3 * WIDTH)
        np.testing.assert_array_equal(said(read, maps), said(one, maps))
        check_kept(find_probe("mamba-fcs"), one, maps, 4, own)


def test_the_loss_of_the_paper_is_minimised_if_asked(data):
    probe, options = find_probe("mamba-fcs"), OPTIONS | {"total": True}
    features, truth = data.val_maps.features, data.val_maps.targets
    loss = probe.rows_loss(probe.options | options | {"mode": "released"}, {}, data.counts)
    assert isinstance(loss, MambaFCSLoss)
    assert loss.mode == "released"
    one = said(probe.fit(data, options), features)
    assert (one.argmax(axis=-1) == truth).mean() > 0.9
    start = said(probe.fit(data, options | {"epochs": 1}), features)
    cost = MambaFCSLoss(data.counts)
    wanted = torch.from_numpy(truth.astype(int).ravel())
    costs = [cost(torch.from_numpy(x).flatten(0, -2), wanted).item() for x in (one, start)]
    assert costs[0] < costs[1] / 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("guided=1", "guided must be true or false, got 1"),
        ("frequency='fft'", "frequency must be true or false, got 'fft'"),
        ("channels=12", "channels must be a multiple of 8, got 12"),
        ("sek=0.5", "no option 'sek'; it has channels, .* guided, frequency"),
        ("loss=focal:gamma=-1.0", "gamma"),
        ("total=1", "total must be true or false, got 1"),
        ("mode='released'", "mode='released' is of the loss that total=true minimises"),
        ("total=true:tau=0.5", "total=true is a loss by itself; leave out loss and tau"),
        ("total=true:loss='focal'", "total=true is a loss by itself"),
    ],
)
def test_wrong_options_are_refused_before_there_are_data(options, says):
    with pytest.raises(ConfigError, match=says):
        check_probe(parse_probe(f"mamba-fcs:{options}"))


def test_classes_that_are_no_transitions_are_refused():
    with pytest.raises(ConfigError, match="'mamba-fcs' is for task 'change': class 'a'"):
        find_probe("mamba-fcs").check({}, ClassCounts(("a", "b"), (3, 3)))
