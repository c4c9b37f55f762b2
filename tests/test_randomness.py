"""A seed lent to torch's global state: the same draws everywhere, and the state given back."""

import pytest
import torch

from tailora.randomness import seeded


@pytest.mark.parametrize("accelerated", [False, True])
def test_draws_are_those_of_a_manual_seed_and_the_state_comes_back(accelerated, monkeypatch):
    before, seeds, own = torch.get_rng_state(), [], torch.manual_seed
    with torch.random.fork_rng(devices=[]):
        expected = [torch.rand(3, generator=torch.Generator().manual_seed(7)), torch.rand(3)]
        torch.set_rng_state(before)
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerated)
        monkeypatch.setattr(torch, "manual_seed", lambda seed: seeds.append(seed) or own(seed))
        with seeded(7):
            found = torch.rand(3)
        assert torch.equal(found, expected[0])
        assert torch.equal(torch.rand(3), expected[1])
    assert seeds == [7] * accelerated  # only an accelerator's generators need it
