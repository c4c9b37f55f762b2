"""The section `train` of a recipe."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TrainOptions:
    """How the base adapter (or the whole encoder) learns.

    Args:
        epochs: Passes over the training split.
        batch_size: Images a step, for every stage.
        lr: Peak learning rate; None is 1e-3, or 5e-5 for `--method fine-tune`.
        weight_decay: Of AdamW, and of Muon unless `optimizer_options` has another.
        optimizer: `"adamw"`, or `"muon"` for the adapter's matrices and AdamW for all else. `lr` is
            the peak of both. Of the base adapter; stage 5 of debLoRA has AdamW.
        optimizer_options: Passed to Muon; `lr` there is the matrices' own peak.
        objective: What the base adapter learns: `"labels"` by a loss; classes by comparing two
            views of each image, `"supcon"`, `"sbcl"` or `"paco"`; or without labels
            `"self-distillation"` (the pretrained features of an image from its turned copies),
            `"masked"` (from half of it) or `"rotation"` (how far an image was turned).
        objective_options: Of `"supcon"`, `"sbcl"` and `"paco"`: those of the loss, and
            `projection` (width where views are compared), `jitter` (of contrast and brightness);
            `warmup`, `every`, `minimum`, `percentile` of SBCL (epochs of SupCon first, epochs
            between clusterings, samples of a subclass, where temperatures are clipped); `queue`,
            `momentum` of PaCo.
        loss: See `tailora methods`. LDAM learns under a cosine head of its scale.
        loss_options: Passed to the loss, or to that of `lora+sade`, `lora+ride`, `lora+tlc` and
            `lora+reslt`.
        mix: `"none"`, or a mix of `tailora methods`: images are mixed and their labels shared.
        mix_options: Passed to the mix.
        mix_off: Epochs without mixing at the beginning, and as many at the end; None is 0, but for
            CMO the shares of its released code (the first 4 and the last 3 of 200), at least 1.
        mix_average: `"separate"` adds the averages of the loss under either label, as released code
            of mixup and CMO does; `"joint"` takes one average of all labels, in which a class's
            weight also enlarges its share. They differ under class weights only.
        deferred: Share of the epochs after which a second phase begins, in (0, 1): the loss is
            replaced by its re-weighted version (LDAM-DRW, RIDE, TLC), unless one of the next two
            says what changes. None is one phase, but 0.8 for `lora+ride` and `lora+tlc`.
        deferred_loss: Loss of the second phase, with its own defaults, e.g. `"action-aware"`.
        deferred_sampler: Sampler of the second phase, with its own defaults, or `"none"`.
        augment: `"dihedral"`, `"speckle"` (of radar), `"dihedral+speckle"` or `"none"`.
        sampler: `"none"` takes every image once an epoch in random order; else a sampler of
            `tailora methods` says which, how often and in which order. A sampler that evens classes
            out and a loss that does (`loss`) correct for the same thing twice.
        sampler_options: Passed to the sampler.
    """

    epochs: int = 3
    batch_size: int = 32
    lr: float | None = None
    weight_decay: float = 0.0
    optimizer: str = "adamw"
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    objective: str = "labels"
    objective_options: dict[str, Any] = field(default_factory=dict)
    loss: str = "cross-entropy"
    loss_options: dict[str, Any] = field(default_factory=dict)
    mix: str = "none"
    mix_options: dict[str, Any] = field(default_factory=dict)
    mix_off: int | None = None
    mix_average: str = "separate"
    deferred: float | None = None
    deferred_loss: str | None = None
    deferred_sampler: str | None = None
    augment: str = "dihedral"
    sampler: str = "none"
    sampler_options: dict[str, Any] = field(default_factory=dict)
