"""Sharded fine-tuning against plain training, in two real processes, stopped and resumed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close


@pytest.mark.slow
def test_a_sharded_network_learns_what_a_whole_one_does_even_when_it_was_stopped(tmp_path):
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            str(Path(__file__).with_name("sharded_training.py")), str(tmp_path),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    assert found["sharded"].keys() == found["together"].keys()
    for name, tensor in found["together"].items():
        assert_close(found["sharded"][name], tensor, rtol=1e-4, atol=1e-6)
    every = (5 * 6 + 6) + (6 * 6 + 6) + (6 * 4 + 4)
    assert found["held"] <= every / 2 + 10  # rows are divided whole, so not to the number
    kept = torch.load(tmp_path / "kept.pt", weights_only=True)
    assert kept["encoder.last.weight"].shape == (4, 6)  # a checkpoint is whole
