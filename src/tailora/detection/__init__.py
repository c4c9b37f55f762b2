"""Components for detectors: one-stage detectors, losses, and initial biases without sampling."""

from tailora.detection.gaussian_boxes import gwd_loss, kfiou_loss, kld_loss, prob_iou_loss
from tailora.detection.guided_loss_scaling import guided_loss_scaling, sampling_free_cross_entropy
from tailora.detection.presence import (
    focal_presence,
    quality_focal_presence,
    sampling_free_presence,
)
from tailora.detection.prior_bias_init import init_bias_from_prior, prior_bias
from tailora.detection.prob_iou import prob_iou
from tailora.detection.roi_pooling import roi_pool_rotated
from tailora.detection.rotated_fcos import RotatedFCOS
from tailora.detection.rotated_rtmdet import RotatedRTMDet

__all__ = [
    "RotatedFCOS",
    "RotatedRTMDet",
    "focal_presence",
    "guided_loss_scaling",
    "gwd_loss",
    "init_bias_from_prior",
    "kfiou_loss",
    "kld_loss",
    "prior_bias",
    "prob_iou",
    "prob_iou_loss",
    "quality_focal_presence",
    "roi_pool_rotated",
    "sampling_free_cross_entropy",
    "sampling_free_presence",
]
