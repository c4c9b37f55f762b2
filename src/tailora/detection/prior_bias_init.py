"""Initialise a sigmoid classifier's biases at the prior (Chen et al., sampling-free detection)."""

import math

import torch
from torch import nn

from tailora.errors import ConfigError


def prior_bias(num_foreground: int, num_background: int, num_classes: int = 1) -> float:
    """Return the bias at which every class's sigmoid equals its share of all anchors.

    Then the gradient of the many negatives is as large as that of the few positives from the first
    step on, and no sampling is needed.

    Args:
        num_foreground: Number of foreground anchors, at least 1.
        num_background: Number of background anchors, at least 0; ignored anchors count as neither.
        num_classes: Classes that share the foreground; 1 for a proposal network.

    Returns:
        -log((1 - pi) / pi) with pi = foreground share / classes.

    Raises:
        ConfigError: A number is too small, or the share is 1.

    Example:
        >>> round(prior_bias(1, 99), 4)
        -4.5951

    Reference:
        Chen et al., Is Heuristic Sampling Necessary in Training Deep Object Detectors?, 2019,
        optimal bias initialisation.
    """
    share = foreground_share(num_foreground, num_background)
    if num_classes < 1 or share / num_classes == 1:
        raise ConfigError(
            "a finite bias needs at least one class, and background if there is one class; got "
            f"{num_background} background anchors and {num_classes} classes"
        )
    share /= num_classes
    return math.log(share) - math.log1p(-share)


def foreground_share(num_foreground: int, num_background: int) -> float:
    """Return the share of foreground anchors; also the score below which a detection is dropped.

    Raises:
        ConfigError: There is no foreground, or a negative number of background anchors.
    """
    if num_foreground < 1 or num_background < 0:
        raise ConfigError(
            "foreground must be at least 1 and background at least 0, got "
            f"{num_foreground} and {num_background}"
        )
    return num_foreground / (num_foreground + num_background)


def init_bias_from_prior(
    layer: nn.Linear | nn.Conv2d, num_foreground: int, num_background: int, num_classes: int = 1
) -> None:
    """Initialise the biases of a sigmoid classifier's last layer in place with `prior_bias`.

    Args:
        layer: Returns one logit per anchor and class.
        num_foreground: Number of foreground anchors, at least 1.
        num_background: Number of background anchors.
        num_classes: Classes that share the foreground.

    Raises:
        ConfigError: The layer has no bias, or see `prior_bias`.

    Reference:
        Chen et al., Is Heuristic Sampling Necessary in Training Deep Object Detectors?, 2019,
        optimal bias initialisation.
    """
    if layer.bias is None:
        raise ConfigError("the layer has no bias to initialise; build it with bias=True")
    with torch.no_grad():
        layer.bias.fill_(prior_bias(num_foreground, num_background, num_classes))
