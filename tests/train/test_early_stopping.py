"""Early stopping: when a training ends, which weights it keeps, and what a resumed one does."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.metrics import f1_score
from torch import nn

from tailora import processes
from tailora.adapters import AdapterSpec, adapt, allocation
from tailora.errors import TrainingError
from tailora.metrics.confusion import present_macro_f1
from tailora.train import Callback, Schedule, train
from tailora.train.early_stopping import EarlyStopping, Validation
from tailora.train.history import History, StageFolder
from tailora.train.objectives import one_answer
from tailora.train.phases import LossOfEpoch
from tailora.train.training_module import TrainingModule

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
Y = 4 * X @ torch.tensor([[1.0], [-2.0], [0.5]])
LOSSES = [3.0, 1.5, 1.0, 2.0, 1.0, 0.5, 4.0, 9.0, 9.0]  # of validation after each epoch


def linear():
    layer = nn.utils.skip_init(nn.Linear, 3, 1)
    layer.weight.data.fill_(0.1)
    layer.bias.data.zero_()
    return layer


class Weights(Callback):
    """Keeps the weights of each epoch's end."""

    def __init__(self, layer):
        self.layer, self.of_epoch, self.ends = layer, {}, []

    def on_epoch_end(self, event):
        self.of_epoch[event.epoch] = self.layer.weight.detach().clone()
        self.ends.append(event.validation)

    def on_stage_end(self, event):
        self.ends.append(event)


def stopping(epochs, rows=6):
    return EarlyStopping(epochs, np.arange(rows), np.zeros(12, np.int64), present_macro_f1, 4)


def learn(layer, *, epochs=2, losses=LOSSES, callbacks=(), stop_at=None, checkpoint=None):
    """Train for up to nine epochs of three steps with these validation losses."""
    now = 0

    def start_epoch(epoch):
        nonlocal now
        now = epoch

    def objective(batch, _):
        rows = torch.from_numpy(batch)
        return (layer(X[rows]) - Y[rows]).square().mean()

    def validation_loss(_batch, _generator):
        return torch.tensor(losses[now])

    training = TrainingModule(layer, objective, start_epoch, validation_loss=validation_loss)
    validation = Validation(training, stopping(epochs)) if epochs else None
    for step in train(
        layer, objective, np.arange(12), schedule=Schedule(9, 4, 0.05), seed=3, stage="lora",
        accelerator=Accelerator(), callbacks=callbacks, validation=validation,
        start_epoch=start_epoch, checkpoint=checkpoint,
    ):  # fmt: skip
        if step.number == stop_at:
            raise KeyboardInterrupt
    return step.number


@pytest.mark.parametrize(
    ("epochs", "last", "best"), [(1, 4, 3), (2, 5, 3), (3, 9, 6), (9, 9, 6), (None, 9, None)]
)
def test_it_stops_when_it_has_waited_and_keeps_the_best_epoch(epochs, last, best):
    """A loss that is only reached again is no better: epoch 5 does not begin the waiting anew."""
    layer = linear()
    weights = Weights(layer)
    assert learn(layer, epochs=epochs, callbacks=[weights]) == 3 * last
    *validated, end = weights.ends
    assert (end.epoch, end.epochs, end.step, end.best_epoch) == (last, 9, 3 * last, best)
    assert torch.equal(layer.weight, weights.of_epoch[best or 9])
    if epochs:
        assert [one.value for one in validated] == LOSSES[:last]
        so_far = [1 + int(np.argmin(LOSSES[: n + 1])) for n in range(last)]
        assert [one.best_epoch for one in validated] == so_far
    else:
        assert validated == [None] * 9


def test_validation_changes_no_epoch():
    alone, watched = linear(), linear()
    first, second = Weights(alone), Weights(watched)
    learn(alone, epochs=None, callbacks=[first])
    learn(watched, epochs=9, callbacks=[second])
    for epoch in range(1, 10):
        assert torch.equal(first.of_epoch[epoch], second.of_epoch[epoch])


@pytest.mark.parametrize("stop_at", range(1, 16))
def test_a_resumed_training_stops_where_an_uninterrupted_one_does(stop_at, tmp_path):
    straight, folder = StageFolder("lora", tmp_path / "a"), StageFolder("lora", tmp_path / "b")
    expected, found = linear(), linear()
    learn(expected, callbacks=[History(straight)], checkpoint=straight.checkpoint)
    again = {"callbacks": [History(folder)], "checkpoint": folder.checkpoint}
    with pytest.raises(KeyboardInterrupt):
        learn(linear(), stop_at=stop_at, **again)
    learn(found, **again)
    assert torch.equal(found.weight, expected.weight)
    lines = [
        [json.loads(line) for line in one.history.read_text("utf-8").splitlines()]
        for one in (folder, straight)
    ]
    clock = ("seconds", "images_per_second")
    first, second = (
        [{k: v for k, v in row.items() if k not in clock} for row in rows] for rows in lines
    )
    assert first == second
    assert first[3] == {
        "stage": "lora", "epoch": 1, "epochs": 9, "step": 3, "measure": "loss", "value": 3.0,
        "best_epoch": 1,
    }  # fmt: skip


def test_a_training_that_had_stopped_does_not_go_on(tmp_path):
    path = tmp_path / "a.pt"
    expected, found = linear(), linear()
    learn(expected, checkpoint=path)
    weights = Weights(found)
    with pytest.raises(UnboundLocalError):  # there is no step
        learn(found, checkpoint=path, callbacks=[weights])
    assert torch.equal(found.weight, expected.weight)
    assert weights.ends[-1].best_epoch == 3


def test_no_weights_are_kept_without_validation(tmp_path):
    learn(linear(), epochs=None, checkpoint=tmp_path / "a.pt")
    assert "best" not in torch.load(tmp_path / "a.pt", weights_only=True)


def test_a_validation_loss_that_is_not_finite_stops_in_one_line():
    with pytest.raises(TrainingError, match=r"the validation loss is nan after epoch 2: lower"):
        learn(linear(), losses=[1.0, float("nan")])


def test_the_ranks_of_adalora_are_those_of_the_best_epoch():
    backbone = nn.Sequential(nn.utils.skip_init(nn.Linear, 3, 4))
    backbone[0].weight.data.copy_(torch.arange(12.0).reshape(4, 3) / 12)
    backbone[0].bias.data.zero_()
    options = {"tinit": 1, "tfinal": 2, "total_step": 6, "deltaT": 1}
    encoder = adapt(backbone, AdapterSpec("adalora", 2, ["0"], options), seed=0, total_steps=6)
    patterns, now = {}, 0

    def start_epoch(epoch):
        nonlocal now
        now = epoch

    class Patterns(Callback):
        def on_epoch_end(self, event):
            patterns[event.epoch] = str(allocation(encoder)["rank_pattern"])

    training = TrainingModule(
        encoder,
        lambda batch, _: encoder(X[batch]).square().mean(),
        start_epoch,
        validation_loss=lambda *_: torch.tensor(float(now)),
    )
    for _ in train(
        encoder, training.objective, np.arange(12), schedule=Schedule(6, 12, 0.01), seed=0,
        accelerator=Accelerator(), validation=Validation(training, stopping(9)),
        start_epoch=start_epoch, callbacks=[Patterns()],
    ):  # fmt: skip
        pass
    assert len(set(patterns.values())) > 1
    assert str(allocation(encoder)["rank_pattern"]) == patterns[1]


# --- what is measured ---


def test_a_head_is_measured_by_the_macro_f1_of_the_classes_that_occur():
    rng = np.random.default_rng(0)
    labels, answers = rng.integers(0, 3, 40), rng.integers(0, 5, 40)
    rows = rng.permutation(40)[:17]
    training = TrainingModule(
        nn.Identity(), lambda *_: torch.zeros(()), predict=lambda b: torch.from_numpy(answers[b])
    )
    score = partial(present_macro_f1, num_classes=5)
    validation = Validation(training, EarlyStopping(1, rows, labels, score, batch_size=4))
    expected = f1_score(
        labels[rows], answers[rows], labels=np.unique(labels[rows]), average="macro"
    )
    assert validation.value(training.module, Accelerator(), seed=0) == pytest.approx(expected)
    assert validation.measure == "macro_f1"
    assert validation.is_better(0.5, 0.4)


def test_a_loss_is_averaged_over_rows_under_the_same_draws_each_time():
    seen = []

    def objective(batch, generator):
        seen.append(generator.integers(10**9))
        return torch.tensor(float(batch.mean()))

    training = TrainingModule(nn.Dropout(0.5), objective)
    validation = Validation(training, stopping(1, rows=7))
    for _ in range(2):
        assert validation.value(training.module, Accelerator(), seed=5) == pytest.approx(3.0)
    assert seen[:2] == seen[2:]
    assert not training.module.training
    assert validation.is_better(0.4, 0.5)


def test_experts_answer_as_their_loss_combines_them():
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one_answer(logits[0], nn.CrossEntropyLoss()), logits[0])
    assert torch.equal(one_answer(logits, nn.CrossEntropyLoss()), logits.mean(dim=0))
    first = nn.CrossEntropyLoss()
    first.combine = lambda experts: experts[2]
    assert torch.equal(one_answer(logits, LossOfEpoch(first, nn.CrossEntropyLoss())), logits[2])


@pytest.mark.parametrize(("rows", "count"), [(7, 3), (6, 3), (2, 3), (1, 4), (9, 2)])
def test_rows_that_are_dealt_come_back_in_their_order(rows, count):
    class Process:
        num_processes = count

        def __init__(self, index):
            self.process_index = index

        def gather(self, _values):
            return torch.cat(every)

    given = np.arange(rows) * 10
    dealt = [processes.dealt(given, Process(index)) for index in range(count)]
    assert len({len(part) for part in dealt}) == 1
    assert set(np.concatenate(dealt)) == set(given)
    every = [torch.from_numpy(part) for part in dealt]
    back = processes.gathered(every[0], rows, Process(0))
    assert back.tolist() == given.tolist()
