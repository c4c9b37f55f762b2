"""Components for detectors with many anchors: losses and initial biases without sampling."""

from tailora.detection.guided_loss_scaling import guided_loss_scaling, sampling_free_cross_entropy
from tailora.detection.prior_bias_init import init_bias_from_prior, prior_bias

__all__ = [
    "guided_loss_scaling",
    "init_bias_from_prior",
    "prior_bias",
    "sampling_free_cross_entropy",
]
