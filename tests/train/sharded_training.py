"""What two processes do for `test_sharding.py`: train a sharded network, stop, resume; then alone.

    torchrun --nproc-per-node 2 tests/train/sharded_training.py FOLDER

Writes the weights of both ways; the first part of a batch of three is empty for one process.
"""

import copy
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from tailora.processes import leave
from tailora.train import Schedule, train
from tailora.train.sharding import is_sharded, shard, whole

ROWS, SCHEDULE = 7, {"epochs": 2, "batch_size": 3, "lr": 0.05, "weight_decay": 0.1}


class Network(nn.Module):
    """Two layers in a list, one outside of it."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(5, 6), nn.Linear(6, 6)])
        self.last = nn.Linear(6, 4)

    def forward(self, values):
        for layer in self.layers:
            values = torch.tanh(layer(values))
        return self.last(values)


def main(folder):
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(0)
    values, targets = torch.randn(ROWS, 5), torch.randint(0, 3, (ROWS,))
    parts = nn.ModuleDict({"encoder": Network(), "head": nn.Linear(4, 3)})

    def learn(module, stop_at=None, **options):
        def objective(batch, _generator):
            rows = torch.from_numpy(batch)
            logits = module["head"](module["encoder"](values[rows]))
            return 30 * nn.functional.cross_entropy(logits, targets[rows])  # long: it is clipped

        schedule = Schedule(**SCHEDULE, micro_batch=1)
        for step in train(
            module, objective, np.arange(ROWS), schedule=schedule, seed=1, accelerator=accelerator,
            **options,
        ):  # fmt: skip
            if step.number == stop_at:
                return

    def divided():
        module = copy.deepcopy(parts)
        shard(module["encoder"], accelerator)
        return module

    checkpoint = folder / "checkpoint.pt"
    learn(divided(), stop_at=4, checkpoint=checkpoint)  # one step into the second epoch
    resumed, together = divided(), copy.deepcopy(parts)
    held = sum(p.to_local().numel() for p in resumed["encoder"].parameters())
    assert all(is_sharded(p) for p in resumed["encoder"].parameters())
    learn(resumed, checkpoint=checkpoint)
    learn(together)
    state = whole(resumed.state_dict())
    if accelerator.is_main_process:
        torch.save(
            {"sharded": state, "together": together.state_dict(), "held": held}, folder / "out.pt"
        )
        torch.save(torch.load(checkpoint, weights_only=True)["parameters"], folder / "kept.pt")
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave()  # once no local holds the group: its threads must end before Python does
