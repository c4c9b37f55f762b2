"""Heads by name: the probe axis of a comparison, and the head of a run.

There is one for each loss, a linear head, and the classes of `Probe` that this module imports; a
new one is imported here and listed in `_OTHERS`.
"""

from typing import Any, Final, final

from torch import nn

from tailora import registry
from tailora.counts import ClassCounts
from tailora.heads.classifier_retraining import CRTProbe
from tailora.heads.clip_zero_shot import ClipZeroShotProbe
from tailora.heads.conv import ConvProbe
from tailora.heads.cosine import CosineProbe
from tailora.heads.density import DensityProbe
from tailora.heads.dpt import DPTProbe
from tailora.heads.expert_probes import RIDEProbe, SADEProbe, TLCProbe
from tailora.heads.factored import FactoredProbe
from tailora.heads.ldam import LDAMProbe
from tailora.heads.loss_probe import LossProbe
from tailora.heads.lws import LWSProbe
from tailora.heads.mamba_fcs import MambaFCSProbe
from tailora.heads.ncm import NCMCL2NProbe, NCML2NProbe, NCMProbe
from tailora.heads.nearest_neighbours import KNNProbe
from tailora.heads.own import OwnProbe
from tailora.heads.post_classification import PostClassificationProbe
from tailora.heads.post_hoc import PostHocProbe
from tailora.heads.probe import NO_OPTIONS, Options, Probe, ProbeData
from tailora.heads.pulaski import PulaskiProbe
from tailora.heads.rcal import RCALProbe
from tailora.heads.reslt import ResLTProbe
from tailora.heads.sade_test_time import SADETestTimeProbe
from tailora.heads.tau_normalisation import TauNormalisedProbe
from tailora.heads.upernet import UPerNetProbe
from tailora.heads.vit_p import ViTPProbe

_OTHERS: Final[tuple[type[Probe], ...]] = (
    LDAMProbe,
    NCMProbe,
    NCML2NProbe,
    NCMCL2NProbe,
    KNNProbe,
    DensityProbe,
    PostHocProbe,
    TauNormalisedProbe,
    CRTProbe,
    LWSProbe,
    CosineProbe,
    ResLTProbe,
    RCALProbe,
    SADEProbe,
    RIDEProbe,
    TLCProbe,
    SADETestTimeProbe,
    ConvProbe,
    DPTProbe,
    PulaskiProbe,
    UPerNetProbe,
    ViTPProbe,
    FactoredProbe,
    PostClassificationProbe,
    MambaFCSProbe,
    ClipZeroShotProbe,
    OwnProbe,
)


def probe_names() -> list[str]:
    """Return the names of all heads: one per loss, then the others."""
    return list(_probes())


def find_probe(name: str) -> Probe:
    """Return the head called `name`.

    Raises:
        ConfigError: There is none; the message suggests the nearest name.
    """
    probes = _probes()
    if name not in probes:
        raise registry.missing("probe", name, probes)
    return probes[name]


def _probes() -> dict[str, Probe]:
    """Return all heads by name, including those for registered losses."""
    under = {
        name: LossProbe(name, registry.find("losses", name)) for name in registry.head_losses()
    }
    added = [entry.part for entry in registry.entries("heads").values() if entry.part is not None]
    return {**under, **{probe.name: probe for probe in (make() for make in (*_OTHERS, *added))}}


@final
class ProbeObject(Probe):
    """A head that was given as an object, under the name that a recipe has for it.

    Args:
        probe: The head; it has its options in itself.
        name: In recipes.
        told: Description of it, which stands in the place of options.
    """

    def __init__(self, probe: Probe, name: str, told: dict[str, Any]) -> None:
        self.probe, self.name, self.told = probe, name, told
        self.summary = getattr(probe, "summary", "")
        self.views, self.text, self.maps = probe.views, probe.text, probe.maps
        self.transitions = probe.transitions

    @property
    def options(self) -> dict[str, Any]:
        """Its description."""
        return dict(self.told)

    def check(self, options: Options, counts: ClassCounts) -> None:
        """Check the head without options."""
        self.probe.check({}, counts)

    def fit(self, data: ProbeData, options: Options = NO_OPTIONS) -> nn.Module:
        """Train the head without options."""
        return self.probe.fit(data, {})

    def empty(self, width: int, classes: int, options: Options = NO_OPTIONS) -> nn.Module:
        """Build the head without options."""
        return self.probe.empty(width, classes, {})
