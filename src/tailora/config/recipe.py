"""A recipe: every setting of a run, in short sections.

A run writes its fully resolved recipe to one file. A hand-written recipe only needs the keys that
differ from the defaults.
"""

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import tomli_w

from tailora.adapters.spec import AdapterSpec
from tailora.config.deblora_options import DebiasOptions
from tailora.errors import ConfigError, unknown_name
from tailora.registry import fitted_methods, names
from tailora.storage import parse_toml, parse_value


@dataclass(frozen=True)
class ComputeOptions:
    """Precision and memory.

    Args:
        precision: `"fp32"`, or `"bf16"`: the encoder runs under bfloat16 autocast in training,
            feature extraction and prediction; weights, head and losses stay float32. `"auto"` takes
            bf16 where the machine computes faster with it; the run's recipe holds which it was.
        micro_batch: Images per forward pass in training. Gradients are accumulated over the batch,
            so each step equals that of the full batch; None runs the batch at once.
        checkpointing: Gradient checkpointing: keep only activations at layer boundaries and
            recompute the rest in the backward pass; same gradients, less memory, about a third more
            time.
        compile: Compile the encoder for training with torch.compile: faster steps, same results up
            to rounding, up to a minute of compilation per stage; needs a C++ compiler.
        shard: Shard the encoder's weights, gradients and optimiser state over the processes (FSDP)
            during fine-tuning, for encoders too large to train on one device.
    """

    precision: str = "fp32"
    micro_batch: int | None = None
    checkpointing: bool = False
    compile: bool = False
    shard: bool = False


@dataclass(frozen=True)
class EvaluateOptions:
    """How the result is evaluated.

    Args:
        groups: `"class-thirds"`, `"equal-mass"`, `"counts"`, `"ratio"`, or a table of class names
            for head, middle and tail.
        low: Tail threshold of `"counts"` and `"ratio"`.
        high: Head threshold of `"counts"` and `"ratio"`.
        replicates: Number of bootstrap resamples.
        confidence: Confidence level of the intervals, in (0, 1).
        trust_f1: A class is trusted only if its F1 interval lies above this.
        trust_support: A class with fewer test samples counts as untested.
        trust_overconfidence: A class is weak if the mean confidence of its predictions exceeds
            their precision by more than this, beyond chance; 1 turns the check off.
        coverage: Target coverage of the conformal prediction sets for each class, in (0, 1); their
            thresholds come from the validation split.
        label_value: Whether to estimate the gain from more labels of rare classes by refitting the
            head on subsampled training features; costs one or two probe fits.
        balanced_reference: Balanced accuracy of the same method trained on a balanced dataset of
            comparable size, if known; the reference for relative accuracy.
    """

    groups: str | dict[str, Any] = "class-thirds"
    low: float | None = None
    high: float | None = None
    replicates: int = 1000
    confidence: float = 0.95
    trust_f1: float = 0.5
    trust_support: int = 10
    trust_overconfidence: float = 0.1
    coverage: float = 0.9
    label_value: bool = True
    balanced_reference: float | None = None


@dataclass(frozen=True)
class TrainOptions:
    """How the base adapter (or the whole encoder) is trained.

    Args:
        epochs: Training epochs.
        patience: Early stopping: end after this many epochs without an improvement on validation,
            and keep the weights of the best epoch, also if all epochs were done; None or 0 never
            stops early. The measure is the macro-F1 of the head trained along, or the loss if there
            is none. debLoRA's own stage always does all of its epochs.
        batch_size: Images per step, in every stage.
        lr: Peak learning rate; None means 1e-3, or 5e-5 for `--method fine-tune`.
        weight_decay: Weight decay of AdamW, and of Muon unless set in `optimizer_options`.
        optimizer: `"adamw"`, or `"muon"` for the adapter's matrices and AdamW for the rest; `lr` is
            the peak of both. Used for the base adapter; stage 5 of debLoRA uses AdamW. `"auto"` is
            Muon for LoRA trained with labels on whole optical images seen from above, which is what
            the search for a default measured, and AdamW for everything else.
        optimizer_options: Passed to Muon; its `lr` is the peak for the matrices.
        objective: Training objective of the base adapter: `"labels"` (a classification loss);
            supervised contrastive learning on two views per image, `"supcon"`, `"sbcl"` or
            `"paco"`; or, without labels, `"self-distillation"` (predict the pretrained features
            from augmented views), `"masked"` (from half of the image), `"rotation"` (predict the
            rotation), or `"denoising"` for diffusion models.
        objective_options: For `"supcon"`, `"sbcl"` and `"paco"`: the options of the loss,
            `projection` (width of the projection head) and `jitter` (of contrast and brightness);
            for SBCL also `warmup` (initial epochs of SupCon), `every` (epochs between clusterings),
            `minimum` (samples per subclass) and `percentile` (at which temperatures are clipped);
            for PaCo also `queue`, `momentum` (of the momentum encoder) and `prototypes` (how often
            the de-biased centre of each tail class stands among the keys, 0 for not at all).
        head_start: Initial weights of the linear head that the encoder is trained with:
            `"probe"`, the run's linear probe on pretrained features, or `"zero"`, as in ordinary
            fine-tuning.
        loss: See `tailora methods losses`. LDAM uses a cosine head with its scale.
        loss_options: Passed to the loss, including that of `lora+sade`, `lora+ride`, `lora+tlc` and
            `lora+reslt`.
        detector: Of `--task detect`: what finds boxes, `"fcos"`, or `"rtmdet"`, which gives objects
            their locations by what is said of them, and whose score is how well a box fits.
        box_loss: Of `--task detect`: how predicted and true boxes are compared, `"prob-iou"`,
            `"kfiou"`, `"gwd"` or `"kld"`; see `tailora methods detection`.
        presence: Of the detector `"fcos"`: how it learns where objects are, `"focal"`;
            `"quality-focal"`, by which the score of a box is how well it fits; or
            `"sampling-free"`, by which no location weighs more than another.
        mix: `"none"`, or a mixing augmentation from `tailora methods augment`, which mixes images
            and their labels.
        mix_options: Passed to the mixing augmentation.
        mix_off: Epochs without mixing at the start, and the same number at the end; None means 0,
            except for CMO, which uses the proportions of its released code (first 4 and last 3 of
            200), at least 1.
        mix_average: `"separate"` adds the mean losses for the two labels, as the released code of
            mixup and CMO does; `"joint"` takes one weighted mean over both. They differ only with
            class weights.
        deferred: Fraction of the epochs after which a second phase begins, in (0, 1): the loss is
            replaced by its re-weighted version (LDAM-DRW, RIDE, TLC), unless one of the next two
            keys is set. None means one phase, but 0.8 for `lora+ride` and `lora+tlc`.
        deferred_loss: Loss of the second phase, with its default options, e.g. `"action-aware"`.
        deferred_sampler: Sampler of the second phase, with its default options, or `"none"`.
        augment: `"dihedral"` (flips and quarter turns), `"nadir"` (those, and random changes of
            scale, brightness, contrast, colour and sharpness that suit images seen from above),
            `"speckle"` (for radar), `"dihedral+speckle"` or `"none"`; of `--task detect` also
            `"objects"` (flips and quarter turns, any angle, other sizes, rare objects pasted).
            `"auto"` is `"nadir"` where `optimizer = "auto"` is Muon; elsewhere it is `"dihedral"`,
            and `"none"` if images have an up.
        augment_options: For `"nadir"`: `operations`, the number of random changes to each image (2
            of 6), and `strength`, their upper end, in [0, 1] (0.5). For `"objects"`: `angle`
            (true), `scale`, the share by which tiles grow or shrink at most (0.2), and `paste`, the
            probability of a pasted object (0.3).
        sampler: `"none"` shuffles: every image once per epoch; otherwise a sampler from `tailora
            methods samplers`. A class-balancing sampler together with a class-balancing `loss`
            corrects for imbalance twice.
        sampler_options: Passed to the sampler.
        recut: Of tasks with masks: re-cut a window around a random pixel of the class that the
            sampler drew it for (class-balanced, square-root, progressive), which gets to the centre
            of a random token at most this share of the side away, in [0, 1]. What comes into the
            window is its reflection and has no class. 0 leaves windows as they are.
        ema: Keep an exponential moving average of the trained weights, with this decay per step, in
            (0, 1), such as 0.99, in place of those of the last step.
        soup: Train this many adapters from one initial adapter, in different orders and with
            different augmentation, and keep the mean of their weights (model soup), at that many
            times the cost.
        soup_ratios: For each training of the soup the imbalance of its training set: no class has
            more than so many times the samples of the smallest one, drawn at random (LT-Soups);
            empty trains on all.
        interpolation: Share of the way from the pretrained to the trained weights, in (0, 1]
            (WiSE-FT); below 1 for LoRA, rsLoRA and fine-tuning.
        vog: After each epoch take the gradient of each training image too, for the variance of
            gradients in `image-history.jsonl`, at about the cost of another epoch; for images with
            one label each.
        trackers: Experiment trackers to log training to: `"tensorboard"` (into the run folder),
            `"mlflow"`, `"wandb"`; each needs the extra of its name. Of `tailora fit` only.
    """

    epochs: int = 3
    patience: int | None = None
    batch_size: int = 32
    lr: float | None = None
    weight_decay: float = 0.0
    optimizer: str = "auto"
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    objective: str = "labels"
    objective_options: dict[str, Any] = field(default_factory=dict)
    head_start: str = "probe"
    loss: str = "cross-entropy"
    loss_options: dict[str, Any] = field(default_factory=dict)
    detector: str = "fcos"
    box_loss: str = "prob-iou"
    presence: str = "focal"
    mix: str = "none"
    mix_options: dict[str, Any] = field(default_factory=dict)
    mix_off: int | None = None
    mix_average: str = "separate"
    deferred: float | None = None
    deferred_loss: str | None = None
    deferred_sampler: str | None = None
    augment: str = "auto"
    augment_options: dict[str, Any] = field(default_factory=dict)
    sampler: str = "none"
    sampler_options: dict[str, Any] = field(default_factory=dict)
    recut: float = 0.0
    ema: float | None = None
    soup: int = 1
    soup_ratios: list[float] = field(default_factory=list)
    interpolation: float = 1.0
    vog: bool = False
    trackers: list[str] = field(default_factory=list)


AUTO: Final = "auto"
"""The value of a key that is decided when a run starts; its `recipe.toml` holds what was chosen."""
TRACKERS: Final = "train.trackers"
"""The one key that changes nothing of what is trained or measured."""
_LARGEST_SEED = 2**32 - 2  # scikit-learn takes 32 bits, and the second adapter uses the next seed
_LARGEST_WHOLE = 2**63
_LARGEST_FILE = 2**20  # bytes; a recipe has a few thousand
# beyond these a typo would run forever or fill the memory; applies to each value of a list
RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "data.image_size": (1, 16_384),
    "data.looks": (1, 10**6),
    "adapter.rank": (1, 65_536),
    "train.epochs": (1, 100_000),
    "train.patience": (0, 100_000),
    "train.batch_size": (1, 10**6),
    "train.lr": (0, 1000),
    "train.weight_decay": (0, 1000),
    "train.mix_off": (0, 100_000),
    "train.recut": (0, 1),
    "train.ema": (0, 1),
    "train.soup": (1, 100),
    "train.interpolation": (0, 1),
    "deblora.clusters": (1, 10**6),
    "deblora.balance": (1, math.inf),
    "deblora.pca": (1, 10**6),
    "deblora.rounds": (1, 1000),
    "deblora.epochs": (0, 100_000),
    "deblora.lr": (0, 1000),
    "probe.l2": (0, 10**9),
    "probe.neighbours": (1, 10**6),
    "evaluate.low": (0, 10**12),
    "evaluate.high": (0, 10**12),
    "evaluate.replicates": (1, 10**6),
    "evaluate.trust_support": (0, 10**9),
}
_LONGEST_LIST = 1000
_SHOWN = 60  # characters of a value shown in an error


@dataclass(frozen=True)
class DataOptions:
    """How images are read.

    Args:
        image_size: Input size of the encoder in pixels; None means five patches (70 for DINOv2).
        resize: `"crop"` (resize the short side, centre crop) or `"stretch"`.
        bands: Bands to keep, in this order, by name or by number from 1; empty keeps all.
        skip_broken: Skip and list unreadable images instead of stopping.
        band_names: Name of each image band, in file order; empty reads them from the files.
        sensor: Sensor of the bands: `"sentinel-2"`, `"landsat-8"`, `"landsat-9"`, `"rgb"`, `"rgbn"`
            or `"sar"`. Defines aliases such as `red`; without `band_names` the images have all of
            its bands in its order.
        alpha: `"drop"` a band that a TIFF declares as alpha, or keep it as a `"band"`.
        mean: Mean of each chosen band in stored values, subtracted; empty computes it from the
            training images, or for 8-bit images uses the encoder's own.
        std: Standard deviation of each chosen band, divided by; set together with `mean`.
        radar: `"none"`, or how radar images are stored: `"amplitude"`, `"power"` or `"decibel"`.
            They become decibels, clipped and scaled to 0..1.
        clip: Percentiles of the training images at which radar bands are clipped; empty means 1 and
            99.
        looks: Number of looks of the speckle that `train.augment` adds; fewer means stronger
            speckle; None draws 1 to 10 for each image.
        has_up: Whether images have an up, such as photographs from the ground; they are then never
            turned, in training or by `probe.views`.
    """

    has_up: bool = False

    image_size: int | None = None
    resize: str = "crop"
    bands: list[int | str] = field(default_factory=list)
    skip_broken: bool = False
    band_names: list[str] = field(default_factory=list)
    sensor: str | None = None
    alpha: str = "drop"
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    radar: str = "none"
    clip: list[float] = field(default_factory=list)
    looks: float | None = None


@dataclass(frozen=True)
class BackboneOptions:
    """Which encoder, and how features are taken from it.

    Args:
        name: Hub id, local folder or `dinov2-small`.
        pooling: `"class"` token, `"mean"` of the patches, or `"both"` concatenated; None means both
            if the encoder has a class token, else the mean.
        layers: Layers whose pooled tokens form the features, side by side: -1 is the encoder's
            output, others count its hidden states from 0; empty is the output alone. Unlike those
            of `probe.layers` they are also what the encoder is trained through.
        stem: `"by-wavelength"` lets an RGB encoder take any bands: its kernels go to the bands
            nearest red, green and blue, every other band gets a new, trainable kernel; None accepts
            only the encoder's bands.
        new_bands: Initialisation of new kernels: `"zero"`, or the `"mean"` of the RGB ones
            (`backbones.stem`).
        new_bands_rate: Learning rate of new kernels as a fraction of `train.lr`, in (0, 1]; at the
            full rate they outgrow the pretrained ones within an epoch.
        wavelengths: Wavelength of each chosen band in µm, 0 for none (radar); empty uses the
            data's.
        options: Options of some encoders: `timestep`, `draws` and `prompt` of Stable Diffusion,
            `bands` and `level` of ukis-csmask.
    """

    name: str = "dinov2-small"
    pooling: str | None = None
    layers: list[int] = field(default_factory=list)
    stem: str | None = None
    new_bands: str = "zero"
    new_bands_rate: float = 0.1
    wavelengths: list[float] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProbeOptions:
    """The head on frozen features, the same for every method.

    Args:
        loss: Loss of a linear head, or any other head from `tailora methods probes`, such as
            `"crt"`; `--probe` on the command line.
        loss_options: Options of the loss; the other heads have none. Empty is those of the task:
            `tau = 0.5` of `"logit-adjusted"` for segmentation. Of a list of values, such as
            `tau = [0.7, 1.0, 1.3]`, the one with the best validation macro-F1 is taken.
        l2: L2 penalties of linear heads, selected by validation macro-F1 of heads fitted to at most
            10,000 training rows, of images as they are; the head is then fitted to all rows.
        views: 8: train the head on all eight flips and quarter turns of each training image, and
            predict from the mean feature over those of each new image, at eight times the cost of a
            prediction; 1: images as they are. None is 8 wherever images may be turned (no
            `data.has_up`, one decision per image, a method that turns them) and the head is fitted
            after training.
        layers: Layers of the adapted encoder whose pooled tokens the head sees side by side,
            counted as in `backbone.layers`, while the encoder is trained through its output; empty
            is what it is trained through. None is that, but for zero-shot, and for every method in
            segmentation, the layers at half and three quarters of the depth and the output, where
            all layers have tokens of one size. Possible for zero-shot, LoRA and fine-tuning.
        detail: `"stem"`: a head on maps with logits finer than tokens (`dpt`, `pulaski`,
            `upernet`, `vit-p`) also sees the pixels under each token, through convolutions of its
            own; `"upsample"`: in segmentation and change all of the run sees images at twice the
            side that they would have, so twice as many tokens along it; a run keeps that as its
            `data.image_size`. `"none"`: tokens alone.
        smoothing: Share, in [0, 1], of the mean logits of the `neighbours` most similar images
            among those that are predicted together, for a map among chips drawn from its scene; 0
            predicts every image by itself. Above 0 a run cannot predict a single image.
        neighbours: Number of images that `smoothing` averages over.
    """

    loss: str = "logit-adjusted"
    loss_options: dict[str, Any] = field(default_factory=dict)
    l2: list[float] = field(default_factory=lambda: [1.0, 0.3, 0.1, 0.03, 0.01, 0.003])
    views: int | None = None
    layers: list[int] | None = None
    detail: str = "none"
    smoothing: float = 0.0
    neighbours: int = 5


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a run, except the data.

    Args:
        method: One of `tailora methods methods`, except those for `compare` only.
        seed: Seeds splits, weights, sampling order and intervals.
        task: What is decided about an image; one of `tailora methods tasks`.
        data: How images are read.
        backbone: Which encoder.
        adapter: Which adapter, for `"deblora"` and `"lora"`.
        train: How the base adapter or the whole encoder is trained.
        deblora: How features are de-biased.
        probe: The head.
        evaluate: How the result is evaluated.
        compute: Precision and memory.
    """

    method: str = "lora"
    seed: int = 0
    task: str = "classify"
    data: DataOptions = field(default_factory=DataOptions)
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    adapter: AdapterSpec = field(default_factory=AdapterSpec)
    train: TrainOptions = field(default_factory=TrainOptions)
    deblora: DebiasOptions = field(default_factory=DebiasOptions)
    probe: ProbeOptions = field(default_factory=ProbeOptions)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    compute: ComputeOptions = field(default_factory=ComputeOptions)

    def __post_init__(self) -> None:
        if self.method not in fitted_methods():
            raise unknown_name("method", self.method, fitted_methods())
        if self.task not in names("tasks"):
            raise unknown_name("task", self.task, names("tasks"))
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise ConfigError(f"seed must lie in [0, {_LARGEST_SEED}], got {self.seed}")
        for key, (low, high) in RANGES.items():
            section, _, name = key.partition(".")
            _check_range(key, getattr(getattr(self, section), name), low, high)

    def override(self, values: Mapping[str, Any]) -> "Recipe":
        """Return a new recipe with dotted keys replaced, e.g. `{"deblora.balance": 2.0}`.

        Raises:
            ConfigError: Unknown key (the nearest is suggested), or a value of the wrong type or
                range.
        """
        sections: dict[str, dict[str, Any]] = {}
        top: dict[str, Any] = {}
        for key, value in values.items():
            kind = _key_type(key)
            section, _, name = key.rpartition(".")
            (sections.setdefault(section, {}) if section else top)[name] = _cast(key, value, kind)
        for section, changes in sections.items():
            top[section] = dataclasses.replace(getattr(self, section), **changes)
        return dataclasses.replace(self, **top)

    def flat(self) -> dict[str, Any]:
        """Return every dotted key with its value."""
        return _flatten(dataclasses.asdict(self), set(recipe_keys()))

    def to_toml(self) -> str:
        """Write the recipe as TOML; keys that are None (decided later) are left out."""
        return tomli_w.dumps(_without_none(dataclasses.asdict(self)))


@cache
def recipe_keys() -> Mapping[str, Any]:
    """Return every recipe key with its default, in order."""
    keys: dict[str, Any] = {}
    default = Recipe()
    for item in dataclasses.fields(Recipe):
        value = getattr(default, item.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            for inner in dataclasses.fields(value):
                keys[f"{item.name}.{inner.name}"] = getattr(value, inner.name)
        else:
            keys[item.name] = value
    return types.MappingProxyType(keys)


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a TOML recipe into dotted keys.

    Raises:
        ConfigError: No such file, not TOML, longer than any recipe, or an unknown key.
    """
    try:
        with path.open("rb") as file:  # may be a pipe without an end
            raw = file.read(_LARGEST_FILE + 1)
        if len(raw) > _LARGEST_FILE:
            raise ConfigError(f"{str(path)!r} is not a recipe: larger than {_LARGEST_FILE} bytes")
        content = parse_toml(raw.decode("utf-8").replace("\r\n", "\n"))
    except FileNotFoundError as error:
        raise ConfigError(f"no recipe at {str(path)!r}") from error
    except OSError as error:
        raise ConfigError(f"cannot read recipe {str(path)!r}: {error.strerror}") from error
    except ConfigError:
        raise
    except ValueError as error:  # not UTF-8, not TOML, or a number with too many digits
        raise ConfigError(f"recipe {str(path)!r} is not TOML: {error}") from error
    flat = _flatten(content, set(recipe_keys()))
    for key in flat:
        try:
            _key_type(key)
        except ConfigError as error:
            raise ConfigError(f"recipe {str(path)!r}: {error}") from error
    return flat


def parse_assignment(text: str) -> tuple[str, Any]:
    """Read `key=value` as given to `--set`; the value is TOML, or else a bare word.

    Raises:
        ConfigError: There is no `=`, or the key is unknown.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set takes key=value, got {text!r}")
    _key_type(key.strip())
    try:
        return key.strip(), parse_value(value.strip())
    except ValueError as error:
        raise ConfigError(f"{key.strip()} cannot be read: {error}") from error


def cast_value(key: str, value: Any) -> Any:
    """Cast a value to the type of its recipe key, or raise a `ConfigError`."""
    return _cast(key, value, _key_type(key))


def _flatten(content: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        is_section = isinstance(value, Mapping) and key not in known
        for name, inner in value.items() if is_section else [(None, value)]:
            flat[f"{key}.{name}" if name is not None else key] = inner
    return flat


def _key_type(key: str) -> Any:
    section, _, name = key.rpartition(".")
    if key not in recipe_keys():
        if isinstance(recipe_keys().get(section), dict):
            raise ConfigError(
                f"unknown recipe key {key!r}: {section} is a table, set as a whole, e.g. "
                f"--set '{section}={{{name}=...}}'"
            )
        known = f"{section}.{_OTHER_NAMES.get(name, '')}"
        near = {known} & set(recipe_keys()) or recipe_keys()
        raise unknown_name("recipe key", key, near, listed_by="tailora methods recipe")
    return _types(_types(Recipe)[section] if section else Recipe)[name]


_OTHER_NAMES: Final = {"learning_rate": "lr"}  # in other libraries, too unlike to be guessed


@cache
def _types(section: type) -> dict[str, Any]:
    return typing.get_type_hints(section)


def _cast(key: str, value: Any, kind: Any) -> Any:
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for option in options:
        origin = typing.get_origin(option) or option
        if isinstance(value, bool) and origin is not bool:
            continue
        if origin is list and isinstance(value, list):
            if len(value) > _LONGEST_LIST:
                raise ConfigError(f"{key} must hold at most {_LONGEST_LIST:,} values: {len(value)}")
            return [_cast(f"each value of {key}", v, typing.get_args(option)[0]) for v in value]
        if origin is float and isinstance(value, int) and abs(value) < _LARGEST_WHOLE:
            return float(value)
        if origin is Any or isinstance(value, origin):
            return value
    names = [
        option.__name__ if isinstance(option, type) else str(option)
        for option in options
        if option is not types.NoneType  # there is no way to write None
    ]
    raise ConfigError(f"{key} must be {' or '.join(names)}, got {_told(value)}")


def _check_range(key: str, value: Any, low: float, high: float) -> None:
    """Reject values that are too large or NaN; other code rejects small ones, with the reason."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, int | float) and not one <= high:
            raise ConfigError(f"{key} must lie in [{low:,}, {high:,}], got {_told(one)}")


def _told(value: Any) -> str:
    text = reprlib.repr(value) if isinstance(value, list | dict) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _without_none(content: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if value is not None
    }
