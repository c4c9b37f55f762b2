"""The head that an adapter was trained with."""

from typing import final

from torch import nn

from tailora.errors import ConfigError
from tailora.heads.linear_probe import zero_linear
from tailora.heads.probe import NO_OPTIONS, Options, Probe, ProbeData


@final
class OwnProbe(Probe):
    """The linear head of an adapter's own training."""

    name = "own"
    summary = (
        "the linear head that the adapter itself was trained with, in place of one that is fitted "
        "afterwards: ordinary fine-tuning"
    )
    own = True

    def fit(self, data: ProbeData, options: Options = NO_OPTIONS) -> nn.Module:
        """Train it, see `Probe.fit`."""
        self.check(options, data.counts)
        if data.own is None:
            raise ConfigError(
                f"probe {self.name!r} is the linear head of an adapter's own training, and these "
                "features have none (earlier versions kept none); choose another, such as "
                "logit-adjusted"
            )
        return data.own

    def empty(self, width: int, classes: int, options: Options = NO_OPTIONS) -> nn.Module:
        """Build it without its state, see `Probe.empty`."""
        return zero_linear(width, classes)
