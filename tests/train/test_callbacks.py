"""What a training says of its steps: against a loop by hand in torch."""

import json
import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tailora.adapters import AdapterSpec, adapt
from tailora.errors import TrainingError
from tailora.losses import CrossEntropyLoss
from tailora.train import Callback, Schedule, train
from tailora.train.callbacks import NotFiniteError, StageBegin
from tailora.train.history import History, StageFolder

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = 4 * X @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64)
SCHEDULE = {"epochs": 3, "batch_size": 5, "lr": 0.05, "weight_decay": 0.1}


class Heard(Callback):
    """Remembers events; `groups` are the steps that are told while training waits."""

    def __init__(self):
        self.done, self.steps, self.ends, self.groups, self.made = [], [], [], [], 0

    def on_stage_begin(self, event):
        self.done.append(event.done)
        self.grouped_at = None

    def on_step(self, event):
        if self.grouped_at != self.made:
            self.groups.append([])
        self.grouped_at = self.made
        self.groups[-1].append(event)
        self.steps.append(event)

    def on_epoch_end(self, event):
        self.ends.append(event)

    def on_stage_end(self, event):
        self.ends.append(event)


def linear():
    layer = nn.utils.skip_init(nn.Linear, 3, 1, dtype=torch.float64)
    layer.weight.data.fill_(0.1)
    layer.bias.data.zero_()
    return layer


def learn(layer, callbacks=(), *, spoil=None, schedule=SCHEDULE, stop_at=None, **options):
    calls = []

    def objective(batch, _generator):
        calls.append(batch)
        for heard in callbacks:
            heard.made = len(calls)
        rows = torch.from_numpy(batch)
        loss = (layer(X[rows]) - Y[rows]).square().mean()
        return loss if spoil is None else spoil(len(calls), loss)

    for step in train(
        layer, objective, np.arange(12), schedule=Schedule(**schedule), seed=3,
        accelerator=Accelerator(), callbacks=callbacks, **options,
    ):  # fmt: skip
        if step.number == stop_at:
            raise KeyboardInterrupt
    return calls


def by_hand(layer, batches):
    """Loss, rate and gradient norm of each step: AdamW, warm-up over 1 of 9 steps, a cosine."""
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.05, weight_decay=0.1)
    found = []
    for number, batch in enumerate(batches):
        rate = 0.05 * (1 if number == 0 else 0.5 * (1 + math.cos(math.pi * (number - 1) / 8)))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = ((layer(X[batch]) - Y[batch]) ** 2).mean()
        loss.backward()
        norm = math.sqrt(sum((p.grad**2).sum().item() for p in layer.parameters()))
        if norm > 1:
            for parameter in layer.parameters():
                parameter.grad /= norm
        optimizer.step()
        found.append((loss.item(), rate, norm))
    return found


def test_loss_rate_and_gradient_are_those_of_a_loop_by_hand():
    heard, layer, hand = Heard(), linear(), linear()
    batches = learn(layer, [heard])
    expected = by_hand(hand, [torch.from_numpy(batch) for batch in batches])
    found = [(step.loss, step.lr, step.gradient_norm) for step in heard.steps]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert max(norm for *_, norm in found) > 1  # said as it was before it was shortened
    places = [(step.epoch, step.step) for step in heard.steps]
    assert places == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6), (3, 7), (3, 8), (3, 9)]
    assert [len(group) for group in heard.groups] == [3, 3, 3]  # an epoch at a time
    assert heard.done == [0]


def test_the_ends_of_epochs_and_of_the_stage_are_told():
    heard = Heard()
    learn(linear(), [heard], stage="lora")
    assert {step.stage for step in heard.steps} == {"lora"}
    *epochs, end = heard.ends
    assert [(e.stage, e.epoch, e.epochs, e.step, e.validation) for e in epochs] == [
        ("lora", epoch, 3, 3 * epoch, None) for epoch in (1, 2, 3)
    ]
    assert [e.seconds for e in epochs] == sorted(e.seconds for e in epochs)
    assert vars(end) == {"stage": "lora", "epoch": 3, "epochs": 3, "step": 9, "best_epoch": None}


def test_long_epochs_are_told_of_fifty_steps_at_a_time():
    heard = Heard()
    learn(linear(), [heard], schedule={**SCHEDULE, "epochs": 1, "batch_size": 1})
    assert [len(group) for group in heard.groups] == [12]
    heard, layer = Heard(), linear()
    for step in train(
        layer, lambda batch, _: layer(X[batch % 12]).sum(), np.arange(120),
        schedule=Schedule(1, 1, 0.1), seed=0, accelerator=Accelerator(), callbacks=[heard],
    ):  # fmt: skip
        heard.made = step.number
    assert [len(group) for group in heard.groups] == [50, 50, 20]


def test_being_watched_changes_no_bit(tmp_path):
    alone, watched = linear(), linear()
    learn(alone)
    learn(watched, [Heard(), History(StageFolder("lora", tmp_path))])
    for one, other in zip(alone.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_adalora_adds_to_the_loss_is_a_part_of_its_own():
    backbone = nn.Sequential(nn.utils.skip_init(nn.Linear, 3, 4))
    backbone[0].weight.data.copy_(torch.arange(12.0).reshape(4, 3) / 12)
    backbone[0].bias.data.zero_()
    encoder = adapt(backbone, AdapterSpec("adalora", 2, ["0"]), seed=0, total_steps=12)
    weight = encoder.peft_config["default"].orth_reg_weight
    matrices = {n: p.detach().clone() for n, p in encoder.named_parameters() if "lora_" in n}
    heard = Heard()
    for _ in train(
        nn.ModuleDict({"encoder": encoder}),
        lambda batch, _: encoder(X[batch].float()).square().mean(),
        np.arange(12), schedule=Schedule(1, 12, 0.01), seed=0, accelerator=Accelerator(),
        callbacks=[heard],
    ):  # fmt: skip
        pass
    apart = []
    for name, matrix in matrices.items():
        if "lora_A" in name or "lora_B" in name:
            gram = matrix @ matrix.T if "lora_A" in name else matrix.T @ matrix
            apart.append(torch.linalg.norm(gram - torch.eye(len(gram))).item())
    [step] = heard.steps
    assert step.parts == {"orthogonality": pytest.approx(weight * np.mean(apart), rel=1e-4)}


# --- the file ---


def rows_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("stop_at", range(1, 10))
def test_a_resumed_training_repeats_and_loses_no_line(stop_at, tmp_path):
    straight, folder = StageFolder("a", tmp_path / "a"), StageFolder("a", tmp_path / "b")
    learn(linear(), [History(straight)], checkpoint=straight.checkpoint, stage="a")
    with pytest.raises(KeyboardInterrupt):
        learn(linear(), [History(folder)], checkpoint=folder.checkpoint, stop_at=stop_at, stage="a")
    learn(linear(), [History(folder)], checkpoint=folder.checkpoint, stage="a")
    found, expected = rows_of(folder.history), rows_of(straight.history)
    assert [row["step"] for row in found] == list(range(1, 10))
    for key in ("stage", "epoch", "loss", "lr", "gradient_norm", "parts"):
        assert [row[key] for row in found] == [row[key] for row in expected]
    seconds = [row["seconds"] for row in found]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize(("steps", "every"), [(2000, 1), (2001, 2), (5001, 3)])
def test_of_a_long_training_no_more_than_two_thousand_steps_are_written(steps, every, tmp_path):
    heard = Heard()
    learn(linear(), [heard])
    history = History(StageFolder("a", tmp_path))
    history.on_stage_begin(StageBegin("a", epochs=3, steps=steps, done=0))
    [first, *_] = heard.steps
    for number in range(1, steps + 1):
        history.on_step(type(first)(**{**vars(first), "step": number}))
    expected = sorted({1, steps} | set(range(every, steps + 1, every)))
    assert [row["step"] for row in rows_of(tmp_path / "history.jsonl")] == expected
    assert len(expected) <= 2002


# --- not finite ---


@pytest.mark.parametrize(
    ("value", "what"),
    [(math.nan, "the loss is nan"), (math.inf, "the loss is inf"), (-math.inf, "the loss is -inf")],
)
def test_a_loss_that_is_not_finite_stops_before_the_checkpoint(value, what, tmp_path):
    heard, path = Heard(), tmp_path / "a.pt"
    with pytest.raises(NotFiniteError, match=f"^{what} in epoch 2, step 5$") as caught:
        learn(
            linear(), [heard], checkpoint=path,
            spoil=lambda call, loss: loss * value if call == 5 else loss,
        )  # fmt: skip
    assert isinstance(caught.value, TrainingError)
    assert [step.step for step in heard.steps] == [1, 2, 3, 4]
    assert torch.load(path, weights_only=True)["epochs_done"] == 1
    resumed = linear()
    learn(resumed, checkpoint=path)
    straight = linear()
    learn(straight)
    assert torch.equal(resumed.weight, straight.weight)


def test_a_gradient_that_is_not_finite_stops_too():
    """The root of 0 is 0, its slope is not finite."""
    with pytest.raises(NotFiniteError, match="the gradient's length is nan in epoch 1, step 2"):
        learn(
            linear(),
            spoil=lambda call, loss: loss + (0 * loss).sqrt() if call == 2 else loss,
        )


def test_a_loss_without_a_cosine_head_keeps_an_attribute_called_scale_to_itself():
    from tailora.counts import ClassCounts
    from tailora.experts import RIDELoss
    from tailora.losses import LDAMLoss
    from tailora.methods.training_parts import cosine_scale

    counts = ClassCounts(("a", "b"), (9, 3))
    own = CrossEntropyLoss(counts)
    own.scale = 7.0
    assert cosine_scale(own) is None
    assert cosine_scale(LDAMLoss(counts, scale=20.0)) == 20.0
    assert cosine_scale(RIDELoss(counts, scale=12.0)) == 12.0
