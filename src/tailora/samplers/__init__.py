"""Class-aware samplers of row indices; every process draws the same order."""

from tailora.samplers.bucketed import BucketedSampler
from tailora.samplers.class_balanced import ClassBalancedSampler
from tailora.samplers.effective_number import EffectiveNumberSampler
from tailora.samplers.m_per_class import MPerClassSampler
from tailora.samplers.oversampling import OversamplingSampler
from tailora.samplers.progressive import ProgressiveSampler
from tailora.samplers.repeat_factor import RepeatFactorSampler
from tailora.samplers.square_root import SquareRootSampler
from tailora.samplers.stratified import StratifiedSampler
from tailora.samplers.undersampling import UndersamplingSampler

__all__ = [
    "BucketedSampler",
    "ClassBalancedSampler",
    "EffectiveNumberSampler",
    "MPerClassSampler",
    "OversamplingSampler",
    "ProgressiveSampler",
    "RepeatFactorSampler",
    "SquareRootSampler",
    "StratifiedSampler",
    "UndersamplingSampler",
]
