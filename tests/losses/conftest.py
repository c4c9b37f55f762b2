"""A small batch, and cross-entropy in floats and loops, for expected values."""

import math
from types import SimpleNamespace

import pytest
import torch

from tailora.counts import ClassCounts

COUNTS = (500, 50, 5)
LOGITS = [[2.0, -1.0, 0.5], [0.3, 0.2, -1.7], [-0.4, 1.1, 0.9], [1.5, 1.5, -2.0]]
TARGETS = [0, 2, 1, 2]


def cross_entropy(row, target):
    return math.log(sum(math.exp(z) for z in row)) - row[target]


def weighted_mean(values, weights):
    total = sum(weights[t] for t in TARGETS)
    return sum(weights[t] * v for v, t in zip(values, TARGETS, strict=True)) / total


@pytest.fixture
def by_hand():
    return SimpleNamespace(
        counts=COUNTS,
        rows=list(zip(LOGITS, TARGETS, strict=True)),
        targets=TARGETS,
        cross_entropy=cross_entropy,
        mean=lambda values: sum(values) / len(values),
        weighted_mean=weighted_mean,
    )


@pytest.fixture
def counts():
    return ClassCounts(("a", "b", "c"), COUNTS)


@pytest.fixture
def logits():
    return torch.tensor(LOGITS)


@pytest.fixture
def targets():
    return torch.tensor(TARGETS)
