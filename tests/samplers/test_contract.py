"""What every sampler promises, whichever it is."""

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import zip_longest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tailora import registry
from tailora.errors import ConfigError, DataError
from tailora.samplers.epoch import deal

NAMES = registry.names("samplers")
LABELS = [0] * 60 + [1] * 17 + [3] * 6  # class 2 does not occur
IN_BATCHES = {"bucketed": 8, "m-per-class": 8, "stratified": 8}

each_sampler = pytest.mark.parametrize("name", NAMES)


def make_sampler(name, labels=LABELS, *, rank=0, world_size=1, seed=0, epoch=0):
    facts = {
        "labels": labels,
        "epochs": 10,
        "batch_size": 8,
        "rank": rank,
        "world_size": world_size,
    }
    sampler = registry.build(registry.find("samplers", name), facts, {"seed": seed})
    sampler.set_epoch(epoch)
    return sampler


def interleave(parts, chunk):
    """Put the processes' parts together again: whole chunks in turn, then index by index."""
    whole = len(parts[0]) // chunk * chunk
    chunks = [part[i : i + chunk] for i in range(0, whole, chunk) for part in parts]
    rest = zip_longest(*[part[whole:] for part in parts])
    return [i for c in chunks for i in c] + [i for turn in rest for i in turn]


@each_sampler
def test_gives_row_numbers_as_many_as_it_says(name):
    sampler = make_sampler(name)
    rows = list(sampler)
    assert len(rows) == len(sampler)
    assert all(type(row) is int and 0 <= row < len(LABELS) for row in rows)


@each_sampler
def test_seed_and_epoch_decide_the_order_alone(name):
    first = list(make_sampler(name, seed=3, epoch=2))
    again = make_sampler(name, seed=3, epoch=2)
    assert list(again) == first
    assert list(again) == first
    assert list(make_sampler(name, seed=4, epoch=2)) != first
    assert list(make_sampler(name, seed=3, epoch=1)) != first


@each_sampler
def test_runs_of_other_seeds_never_meet(name):
    """Seed and epoch are not added up: else run 1 would repeat run 0 an epoch later."""
    orders = [
        tuple(make_sampler(name, seed=seed, epoch=epoch))
        for seed, epoch in ((0, 1), (1, 0), (0, 2), (1, 1), (2, 0))
    ]
    assert len(set(orders)) == len(orders)


@each_sampler
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_processes_together_see_what_one_would_see(name, world_size):
    alone = list(make_sampler(name, epoch=1))
    samplers = [
        make_sampler(name, rank=rank, world_size=world_size, epoch=1) for rank in range(world_size)
    ]
    parts = [list(sampler) for sampler in samplers]
    assert {len(part) for part in parts} == {len(sampler) for sampler in samplers}
    chunk = IN_BATCHES.get(name, 1)
    together = interleave(parts, chunk)
    assert together[: len(alone)] == alone
    spare = chunk * world_size if name in ("bucketed", "m-per-class") else world_size
    assert len(together) < len(alone) + spare


@settings(deadline=None, max_examples=50)
@given(length=st.integers(1, 60), world_size=st.integers(1, 5), chunk=st.integers(1, 7))
def test_dealing_gives_every_index_to_one_process_and_all_the_same_number(
    length, world_size, chunk
):
    parts = [
        deal(np.arange(length), rank, world_size, chunk=chunk).tolist()
        for rank in range(world_size)
    ]
    assert len({len(part) for part in parts}) == 1
    seen = Counter(index for part in parts for index in part)
    assert set(seen) == set(range(length))
    assert sum(seen.values()) - length < world_size


@each_sampler
def test_feeds_a_plain_loader(name):
    own = torch.Generator()  # else the loader itself draws from the global one
    loader = DataLoader(LABELS, batch_size=8, sampler=make_sampler(name), generator=own)
    assert sum(len(batch) for batch in loader) == len(make_sampler(name))


@each_sampler
def test_takes_labels_as_an_array_too(name):
    assert list(make_sampler(name, np.array(LABELS))) == list(make_sampler(name))


@each_sampler
def test_arguments_out_of_range_are_refused(name):
    with pytest.raises(ConfigError, match=r"rank must lie in \[0, world_size=2\), got 2"):
        make_sampler(name, rank=2, world_size=2)
    with pytest.raises(ConfigError, match="seed must be at least 0, got -1"):
        make_sampler(name, seed=-1)
    with pytest.raises(DataError, match="no labels to sample from"):
        make_sampler(name, [])
    with pytest.raises(DataError, match="labels must be at least 0, got -1"):
        make_sampler(name, [0, 1, -1])


PROCESS = """
import json, sys
import torch.distributed as dist
from tailora.processes import leave
from tailora.samplers import ClassBalancedSampler, StratifiedSampler
rank, store, labels = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
place = dist.get_rank(), dist.get_world_size()
samplers = ClassBalancedSampler(labels, *place, seed=5), StratifiedSampler(labels, 8, *place)
gathered = [None, None]
dist.all_gather_object(gathered, [list(sampler) for sampler in samplers])
if rank == 0:
    print(json.dumps(gathered))
leave()
"""


@pytest.mark.slow
def test_two_real_processes_share_an_epoch(tmp_path):
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROCESS]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store"), json.dumps(LABELS)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    (balanced_0, mirrored_0), (balanced_1, mirrored_1) = json.loads(outputs[0])
    balanced = interleave([balanced_0, balanced_1], 1)
    assert balanced[: len(LABELS)] == list(make_sampler("class-balanced", seed=5))
    mirrored = interleave([mirrored_0, mirrored_1], 8)
    assert mirrored[: len(LABELS)] == list(make_sampler("stratified"))
    assert sorted(mirrored[: len(LABELS)]) == list(range(len(LABELS)))
