import math

import pytest
import torch

from tailora.errors import ConfigError
from tailora.losses import HardRowsLoss


def losses_of(by_hand, tau=0.0):
    """Cross-entropy of each row of logits plus tau log prior, in floats."""
    shift = [tau * math.log(n / sum(by_hand.counts)) for n in by_hand.counts]
    return [
        by_hand.cross_entropy([z + s for z, s in zip(row, shift, strict=True)], target)
        for row, target in by_hand.rows
    ]


@pytest.mark.parametrize("tau", [0.0, 1.0])
@pytest.mark.parametrize("threshold", [0.01, 0.05, 0.4, 0.7, 1.0])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.75, 1.0])
def test_rows_below_the_threshold_count_or_the_hardest(
    tau, threshold, share, by_hand, counts, logits, targets
):
    found = sorted(losses_of(by_hand, tau), reverse=True)
    hard = [loss for loss in found if loss >= -math.log(threshold)]
    hard = hard if len(hard) >= share * len(found) else found[: math.ceil(share * len(found))]
    loss = HardRowsLoss(counts, threshold=threshold, share=share, tau=tau)
    assert loss(logits, targets).item() == pytest.approx(by_hand.mean(hard), rel=1e-5)


def test_ignored_rows_are_not_among_the_hardest(by_hand, counts, logits, targets):
    """Their logits would be the hardest, and the share is one of the others."""
    ignored = torch.full((40, 3), 50.0) * torch.tensor([1.0, -1.0, -1.0])
    more = torch.cat([logits, ignored, ignored])
    none = torch.cat([targets, torch.full((40,), -100), torch.full((40,), -1)])
    loss = HardRowsLoss(counts, threshold=0.01, share=0.5)
    hardest = sorted(losses_of(by_hand), reverse=True)[:2]
    assert loss(more, none).item() == pytest.approx(by_hand.mean(hardest), rel=1e-5)


def test_easy_rows_have_no_gradient(counts):
    logits = torch.tensor([[5.0, 0, 0], [0, 0, 0]], requires_grad=True)
    HardRowsLoss(counts, share=0.1)(logits, torch.tensor([0, 1])).backward()
    assert logits.grad[0].abs().sum() == 0
    assert logits.grad[1].abs().sum() > 0


@pytest.mark.parametrize("option", ["threshold", "share", "tau"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_options_out_of_range_are_refused(option, value, counts):
    with pytest.raises(ConfigError, match=option):
        HardRowsLoss(counts, **{option: value})
