"""The training loop: a generator of steps that can be interrupted and resumed to the bit.

All randomness of an epoch (order, augmentation, dropout) follows from the seed and the epoch's
number, so that a run resumed at an epoch's start repeats exactly what an uninterrupted one does.
"""

import copy
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from tailora import processes
from tailora.adapters import (
    after_step,
    allocation,
    orthogonality,
    require_gradients,
    restore_allocation,
)
from tailora.errors import RunError, TrainingError
from tailora.losses.parts import noted_parts
from tailora.randomness import seeded
from tailora.samplers.epoch import EpochSampler
from tailora.storage import write_atomically
from tailora.train.callbacks import Callback, StageBegin, Step, ValidationScore, Watch
from tailora.train.early_stopping import Validation
from tailora.train.image_history import histories
from tailora.train.optimizers import OptimizerChoice, build_optimizers
from tailora.train.sampling import Order, rows_an_epoch, sampler_at
from tailora.train.schedule import Schedule
from tailora.train.sharding import (
    clip_gradients,
    divide_moments,
    divided_like,
    is_sharded,
    kept,
    whole,
)
from tailora.train.training_module import Joint, Objective, gathering


def train(
    module: nn.Module,
    objective: Objective,
    rows: NDArray[np.int64],
    *,
    schedule: Schedule,
    seed: int,
    accelerator: Accelerator,
    checkpoint: Path | None = None,
    sampler: Order = None,
    optimizer: OptimizerChoice | None = None,
    start_epoch: Callable[[int], None] | None = None,
    callbacks: Sequence[Callback] = (),
    stage: str = "",
    validation: Validation | None = None,
) -> Iterator[Step]:
    """Train every parameter of `module` that requires a gradient.

    Args:
        module: Everything that learns (encoder and head); only its trainable parameters and its
            buffers are saved.
        objective: Gives the loss of some sample numbers; draws only from the generator it is given.
        rows: Sample numbers to learn from; reshuffled each epoch, unless a sampler orders them.
        schedule: How long and how fast.
        seed: Seeds order, augmentation and dropout.
        accelerator: Runs the backward pass on its device. With several processes each takes its
            share of every step's rows, and all make the same step.
        checkpoint: File written at each epoch's end, by the first process; when it exists training
            continues from it.
        sampler: Draws positions in `rows`, how many it likes and in its own order, from its seed
            and the epoch alone; None takes every row once in random order. May change once.
        optimizer: None is AdamW.
        start_epoch: Called with the number of each epoch, from 0, before its first step; what it
            changes must follow from that number, or be a buffer of `module`.
        callbacks: Told of steps in groups, and of all of an epoch before its checkpoint is written.
        stage: What they are told that it is.
        validation: Early stopping; the weights of the best epoch are kept in any case.

    Yields:
        A `Step` after each optimiser step.

    Raises:
        NotFiniteError: A loss or gradient is not finite; noticed before a checkpoint is written,
            and at most 50 steps late, since no step waits for the device.
        BackboneError: An adapter parameter receives no gradient in the first step.
        TrainingError: The validation loss is not finite.
        ProcessError: Another process of the run has ended.
        RunError: The checkpoint was written by another version.
    """
    lengths = rows_an_epoch(rows, sampler, schedule.epochs)
    stepper = _Stepper(module, schedule, lengths, seed, accelerator, optimizer, validation)
    done = stepper.restore(checkpoint)
    begin = StageBegin(stage, schedule.epochs, schedule.steps(lengths), stepper.number)
    watch = Watch(callbacks, begin)
    while done < schedule.epochs and not stepper.has_waited(done):
        epoch = done
        if start_epoch is not None:
            start_epoch(epoch)
        stepper.enter_training()
        order, generator = _epoch(rows, sampler_at(sampler, epoch), seed=seed, epoch=epoch)
        if not accelerator.is_main_process:  # the order is everybody's, what is drawn is not
            generator = np.random.default_rng([seed, epoch, 2, accelerator.process_index])
        for start in range(0, len(order), schedule.batch_size):
            batch = order[start : start + schedule.batch_size]
            step = stepper.step(epoch, objective, batch, generator)
            watch.see(step)
            yield step
        watch.read()
        stepper.end_epoch()
        done += 1
        watch.end_epoch(done, stepper.number, stepper.validate(done))
        if checkpoint is not None:
            stepper.save(checkpoint, epochs_done=done)
    watch.end_stage(done, stepper.number, stepper.finish())


def _epoch(
    rows: NDArray[np.int64], sampler: EpochSampler | None, *, seed: int, epoch: int
) -> tuple[NDArray[np.int64], np.random.Generator]:
    """Return the rows of an epoch in order, and the generator of its augmentation."""
    if sampler is None:
        generator = np.random.default_rng([seed, epoch])
        return generator.permutation(rows), generator
    sampler.set_epoch(epoch)
    # apart from what a sampler of the same seed draws from, or turns would follow the order
    return rows[list(sampler)], np.random.default_rng([seed, epoch, 1])


class _Stepper:
    """The optimisers and their place in the schedule."""

    def __init__(
        self,
        module: nn.Module,
        schedule: Schedule,
        rows: Sequence[int],
        seed: int,
        accelerator: Accelerator,
        optimizer: OptimizerChoice | None,
        validation: Validation | None,
    ) -> None:
        self.module, self.schedule, self.rows = module, schedule, rows
        self.seed, self.accelerator, self.validation = seed, accelerator, validation
        self.best: dict[str, Any] = {"epoch": 0}
        self.names: list[str] = []  # of parts of the loss, in the epoch `named_in`
        self.named_in = -1
        self.number = 0
        self.learning = [p for p in module.parameters() if p.requires_grad]
        self.optimizers = build_optimizers(
            module,
            optimizer or OptimizerChoice(),
            lr=schedule.lr,
            weight_decay=schedule.weight_decay,
        )
        self.groups = [group for one in self.optimizers for group in one.param_groups]
        self.peaks = [group["lr"] for group in self.groups]
        self.adapters = [m for m in module.modules() if isinstance(m, PeftModel)]
        self.gathering = gathering(module)
        self.histories = histories(module)
        averaged = [] if schedule.ema is None else self.learning
        self.averages = [weight.detach().clone() for weight in averaged]

    def enter_training(self) -> None:
        """Put the module into training mode, all but the batch norms of frozen encoders.

        Their running means are no part of an adapter: if they moved, the saved adapter would meet
        others than it was trained with.
        """
        self.module.train()
        for part in (part for adapter in self.adapters for part in adapter.modules()):
            if hasattr(part, "running_mean") and not any(
                p.requires_grad for p in part.parameters()
            ):
                part.eval()

    def step(
        self,
        epoch: int,
        objective: Objective,
        batch: NDArray[np.int64],
        generator: np.random.Generator,
    ) -> Step:
        """Do one optimiser step."""
        factor = self.schedule.factor(self.number, self.rows)
        for group, peak in zip(self.groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        own, noted = self._backward(objective, batch, generator)
        orthogonal = self._keep_orthogonal()
        loss, parts = self._sum(epoch, own, noted)
        if self.number == 0:
            for adapter in self.adapters:
                require_gradients(adapter)
        norm = clip_gradients(self.learning, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        for adapter in self.adapters:
            after_step(adapter, self.number)
        self._gather()
        self.number += 1
        if self.averages:
            average = get_ema_multi_avg_fn(self.schedule.decay(self.number))
            average(self.averages, [weight.detach() for weight in self.learning], self.number)
        lr = self.schedule.lr * factor
        return Step(
            epoch, self.number, loss, norm.detach().to(loss.device), lr, parts | orthogonal, batch
        )

    def _backward(
        self, objective: Objective, batch: NDArray[np.int64], generator: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add up gradients over this process's share of a batch, part by part.

        Returns:
            Its loss, and what the loss noted of its own parts.
        """
        total = torch.zeros((), device=self.accelerator.device)
        noted: dict[str, Tensor] = {}
        parts = self._parts(batch, joint=isinstance(objective, Joint))
        together = self.accelerator.num_processes > 1 or len(parts) > 1
        joint = isinstance(objective, Joint) and together
        totals = None
        if joint and len(parts) > 1:
            totals = self._totals(objective, batch, parts, copy.deepcopy(generator))
        with self._own_randomness():
            for part in parts:
                share = len(part) / len(batch)
                dividing = processes.dividing(share if joint else None, totals)
                with self.accelerator.autocast(), noted_parts() as named, dividing:
                    loss = objective(part if len(part) else batch[:1], generator)
                if share < 1:
                    loss = loss * share
                self.accelerator.backward(loss)
                total = total + loss.detach()
                noted |= {n: noted.get(n, 0) + share * value for n, value in named.items()}
        return total, noted

    @torch.no_grad()
    def _totals(
        self,
        objective: Objective,
        batch: NDArray[np.int64],
        parts: Sequence[NDArray[np.int64]],
        generator: np.random.Generator,
    ) -> list[Tensor]:
        """Find what losses of all parts divide by: each is looked at once more, without slopes.

        What a look counts or draws is undone, so that the next one sees and draws the same.
        """
        buffers = [(one, one.clone()) for one in self.module.buffers()]
        noted = []
        with self._own_randomness():
            for part in parts:
                share = len(part) / len(batch)
                with self.accelerator.autocast(), processes.noting(share) as own:
                    objective(part if len(part) else batch[:1], generator)
                noted.append(own)
        for one, before in buffers:
            one.copy_(before)
        return processes.totals_of(noted, self.accelerator)

    def _sum(
        self, epoch: int, own: Tensor, noted: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum gradients, losses and parts of losses over the processes; give the last two."""
        if self.accelerator.num_processes == 1:
            return own, dict(noted)
        if epoch != self.named_in:  # a share without labels notes nothing
            self.names, self.named_in = processes.every_name(noted), epoch
        plain = [p for p in self.learning if not is_sharded(p)]  # the others sum by themselves
        zero = torch.zeros_like(own)
        numbers = torch.stack([own, *(noted.get(name, zero).to(own) for name in self.names)])
        loss, *parts = processes.sum_gradients(plain, numbers)
        return loss, dict(zip(self.names, parts, strict=True))

    def _gather(self) -> None:
        """Tell losses that follow gradients what all processes saw in this step."""
        for part in self.gathering:
            part.gather(self._of_all(part.fresh))

    def _of_all(self, fresh: Tensor) -> Tensor:
        """Sum what each process saw."""
        if self.accelerator.num_processes == 1:
            return fresh
        return processes.sum_gradients([], fresh.flatten()).view_as(fresh)

    def _keep_orthogonal(self) -> dict[str, Tensor]:
        """Add the gradient of what AdaLoRA asks of its matrices, once for all processes."""
        parts: dict[str, Tensor] = {}
        for adapter in self.adapters if self.accelerator.is_main_process else ():
            apart = orthogonality(adapter)
            if apart is not None:
                self.accelerator.backward(apart)
                parts["orthogonality"] = apart.detach()
        return parts

    def _parts(self, batch: NDArray[np.int64], *, joint: bool) -> list[NDArray[np.int64]]:
        """Divide this process's share of a batch into what goes through the encoder at once.

        Sharded layers come together in every forward pass, and joint objectives in every call, so
        all processes then need the same number of parts, some of them empty.
        """
        mine = processes.share(batch, self.accelerator)
        longest = math.ceil(len(batch) / self.accelerator.num_processes)
        size = self.schedule.micro_batch or max(longest, 1)
        parts = [mine[start : start + size] for start in range(0, longest, size)]
        together = joint or any(is_sharded(p) for p in self.learning)
        return [part for part in parts if len(part) or together]

    def end_epoch(self) -> None:
        """Tell histories of images what all processes saw in this epoch."""
        for part in self.histories:
            part.end_epoch(self._of_all(part.fresh))
            if part.gradients is not None:
                self.module.eval()
                with self.accelerator.autocast():
                    part.gradients.look(partial(processes.share, accelerator=self.accelerator))
                part.gradients.end_epoch(self._of_all(part.gradients.fresh))

    def validate(self, epoch: int) -> ValidationScore | None:
        """Validate after an epoch, from 1, and keep the weights if they are the best."""
        if self.validation is None:
            return None
        with self._averaged():
            value = self.validation.value(self.module, self.accelerator, seed=self.seed)
            learnt = self._learnt()
            is_best = not self.best["epoch"] or self.validation.is_better(value, self.best["value"])
            if is_best and math.isfinite(value):
                self.best = {"epoch": epoch, "value": value, **kept(whole(learnt))}
        if not math.isfinite(value):
            raise TrainingError(
                f"the validation loss is {value} after epoch {epoch}: lower the learning rate, "
                f"which is {self.schedule.lr:g}"
            )
        return ValidationScore(self.validation.measure, value, self.best["epoch"])

    def has_waited(self, epochs_done: int) -> bool:
        """Tell whether patience has run out."""
        if self.validation is None:
            return False
        return epochs_done - self.best["epoch"] >= self.validation.stopping.patience

    def finish(self) -> int | None:
        """Load the weights to keep: the average over steps, of the best epoch if validated.

        Returns:
            The number of the best epoch, from 1; None without validation.
        """
        if self.validation is None:
            self._copy(self.averages)
            return None
        self._take(self.best)
        return self.best["epoch"]

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Lend the module the average of its weights over the steps, if there is one."""
        own = [weight.detach().clone() for weight in self.learning] if self.averages else []
        self._copy(self.averages)
        yield
        self._copy(own)

    def _copy(self, weights: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for weight, other in zip(self.learning, weights, strict=bool(weights)):
                weight.copy_(other)

    def save(self, path: Path, *, epochs_done: int) -> None:
        """Write what the next epoch needs: learnt parameters, buffers, optimiser, place."""
        state = whole(self._state(epochs_done=epochs_done))

        def write() -> None:
            buffer = io.BytesIO()  # torch hides a full disk behind a RuntimeError; bytes do not
            torch.save(state, buffer)
            write_atomically(path, lambda temporary: temporary.write_bytes(buffer.getbuffer()))

        processes.only_first(self.accelerator, write)

    def restore(self, path: Path | None) -> int:
        """Load a checkpoint if there is one; give the number of epochs already done."""
        if path is None or not path.is_file():
            return 0
        state = torch.load(path, map_location="cpu", weights_only=True)
        begun = self._state(epochs_done=0)
        learnt = state.get("parameters", {})
        if state.keys() != begun.keys() or learnt.keys() != begun["parameters"].keys():
            raise RunError(
                f"{str(path)!r} was written by another version of tailora: delete it, and this "
                "stage begins anew"
            )
        self._take(state)
        for optimizer, moments in zip(self.optimizers, state["optimizers"], strict=True):
            order = [p for group in optimizer.param_groups for p in group["params"]]
            optimizer.load_state_dict(divide_moments(moments, order))
        # loading puts new dictionaries in the place of the groups
        self.groups = [group for one in self.optimizers for group in one.param_groups]
        for average, saved in zip(self.averages, state.get("averages", ()), strict=True):
            average.copy_(divided_like(saved, average))
        self.number = state["number"]
        self.best = state.get("best", self.best)
        return state["epochs_done"]

    def _state(self, *, epochs_done: int) -> dict[str, Any]:
        return {
            "epochs_done": epochs_done,
            "number": self.number,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            **self._learnt(),
            **({} if self.validation is None else {"best": self.best}),
            **({"averages": self.averages} if self.averages else {}),
        }

    def _learnt(self) -> dict[str, Any]:
        return {
            "parameters": self._tensors(),
            "allocations": [allocation(adapter) for adapter in self.adapters],
        }

    def _take(self, learnt: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                tensor.copy_(divided_like(learnt["parameters"][name], tensor))
        for adapter, own in zip(self.adapters, learnt["allocations"], strict=True):
            restore_allocation(adapter, own)

    def _tensors(self) -> dict[str, Tensor]:
        learnt = {n: p.detach() for n, p in self.module.named_parameters() if p.requires_grad}
        return learnt | dict(self.module.named_buffers())

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        # dropout draws from torch's global state: lend it a seed of this step, then give it back
        apart = self.accelerator.process_index << 40  # no dropout mask twice in a batch
        with seeded(self.seed * 1_000_003 + self.number + apart):
            yield
