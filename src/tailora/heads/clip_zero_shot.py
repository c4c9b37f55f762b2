"""CLIP's text features of the class names (Radford et al. 2021)."""

from typing import final

from torch import nn

from tailora.errors import ConfigError
from tailora.heads.linear_probe import zero_linear
from tailora.heads.probe import NO_OPTIONS, Options, Probe, ProbeData


@final
class ClipZeroShotProbe(Probe):
    """The features of the class names by CLIP's text encoder."""

    name = "clip-zero-shot"
    summary = (
        "CLIP's text features of the class names, without training; CLIP encoders only (Radford "
        "et al., ICML 2021)"
    )

    text = True

    def fit(self, data: ProbeData, options: Options = NO_OPTIONS) -> nn.Module:
        """Train it, see `Probe.fit`."""
        self.check(options, data.counts)
        if data.text is None:
            raise ConfigError(
                f"probe {self.name!r} needs the text encoder of CLIP; use a CLIP --backbone"
            )
        return data.text()

    def empty(self, width: int, classes: int, options: Options = NO_OPTIONS) -> nn.Module:
        """Build it without its state, see `Probe.empty`."""
        return zero_linear(width, classes)
