"""Classification heads, and post-hoc adjustments of trained ones."""

from tailora.heads.class_mean_init import init_from_class_means
from tailora.heads.classifier_retraining import retrain_classifier
from tailora.heads.cosine import CosineHead
from tailora.heads.expert_head import ExpertHead
from tailora.heads.lws import LWSHead
from tailora.heads.ncm import nearest_class_mean
from tailora.heads.prior_thresholding import adjust_logits, divide_by_prior
from tailora.heads.reslt import ResLTHead
from tailora.heads.tau_normalisation import tau_normalise

__all__ = [
    "CosineHead",
    "ExpertHead",
    "LWSHead",
    "ResLTHead",
    "adjust_logits",
    "divide_by_prior",
    "init_from_class_means",
    "nearest_class_mean",
    "retrain_classifier",
    "tau_normalise",
]
