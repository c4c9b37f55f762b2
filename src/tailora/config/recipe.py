"""A recipe: every choice of a run, in sections small enough to read.

A run writes its recipe fully resolved, so that what was done is in one file. Only what differs
from the defaults needs to stand in a recipe a person writes.
"""

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import tomli_w

from tailora.adapters.spec import AdapterSpec
from tailora.config.deblora_options import DebiasOptions
from tailora.errors import ConfigError, unknown_name
from tailora.registry import fitted_methods
from tailora.storage import parse_toml, parse_value


@dataclass(frozen=True)
class ComputeOptions:
    """Precision and memory.

    Args:
        precision: `"fp32"`, or `"bf16"`: the encoder multiplies matrices in bfloat16 (autocast),
            in training, features and predictions alike; weights, head and losses stay float32.
        micro_batch: Images of a forward pass in training: a batch is done in such parts and its
            gradient is their sum, so the step is that of the whole batch; None takes it at once.
        checkpointing: Keep the activations of layer boundaries only and compute the rest again on
            the way back: the same gradients for less memory and about a third more time.
        compile: Let torch compile the encoder for training: faster steps, equal but for rounding,
            after up to a minute of compiling in every stage; needs a C++ compiler.
        shard: Divide the encoder's weights, gradients and moments among the processes while it is
            fine-tuned (FSDP), for encoders whose training does not fit one device.
    """

    precision: str = "fp32"
    micro_batch: int | None = None
    checkpointing: bool = False
    compile: bool = False
    shard: bool = False


@dataclass(frozen=True)
class EvaluateOptions:
    """How the result is measured.

    Args:
        groups: `"class-thirds"`, `"equal-mass"`, `"counts"`, `"ratio"`, or a table of class names
            for head, middle and tail.
        low: Tail limit of `"counts"` and `"ratio"`.
        high: Head limit of `"counts"` and `"ratio"`.
        replicates: Bootstrap replicates.
        confidence: Of the intervals, in (0, 1).
        trust_f1: A class is trusted only if its F1 interval lies above this.
        trust_support: A class with fewer test samples is untested.
        trust_overconfidence: A class is weak if, where it is predicted, the stated probability
            exceeds the share of right answers by more than this, beyond chance; 1 never minds.
        coverage: Share of each class's samples whose prediction set is to hold the class, in
            (0, 1); the sets are calibrated on validation.
        label_value: Whether to estimate what more labels of rare classes would buy, by fitting the
            head to thinned training features: as long as one or two probes take.
        balanced_reference: Balanced accuracy of the same method trained on a balanced set of
            comparable size, if it is known; relative accuracy is measured against it.
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
    """How the base adapter (or the whole encoder) learns.

    Args:
        epochs: Over the training split.
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


_LARGEST_SEED = 2**32 - 2  # scikit-learn takes 32 bits, and the second adapter has the next seed
_LARGEST_WHOLE = 2**63
_LARGEST_FILE = 2**20  # bytes; recipes have a few thousand
# beyond these a slip of the pen would run for ever or fill the memory; each value of a list too
RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "data.image_size": (1, 16_384),
    "data.looks": (1, 10**6),
    "adapter.rank": (1, 65_536),
    "train.epochs": (1, 100_000),
    "train.batch_size": (1, 10**6),
    "train.lr": (0, 1000),
    "train.weight_decay": (0, 1000),
    "train.mix_off": (0, 100_000),
    "deblora.clusters": (1, 10**6),
    "deblora.balance": (1, math.inf),
    "deblora.pca": (1, 10**6),
    "deblora.rounds": (1, 1000),
    "deblora.epochs": (0, 100_000),
    "deblora.lr": (0, 1000),
    "probe.l2": (0, 10**9),
    "evaluate.low": (0, 10**12),
    "evaluate.high": (0, 10**12),
    "evaluate.replicates": (1, 10**6),
    "evaluate.trust_support": (0, 10**9),
}
_LONGEST_LIST = 1000
_SHOWN = 60  # characters of a value in an error


@dataclass(frozen=True)
class DataOptions:
    """How images are read.

    Args:
        image_size: Side in pixels the encoder sees; None is five patches (70 for DINOv2).
        resize: `"crop"` (short side to size, centre) or `"stretch"`.
        bands: Bands to keep, in this order, by name or by number from 1; empty keeps all.
        skip_broken: Leave unreadable images out (counted and listed) instead of stopping.
        band_names: Name of each band of the images, in their order; empty takes what files say.
        sensor: Whose bands they are, `"sentinel-2"`, `"landsat-8"`, `"landsat-9"`, `"rgb"`,
            `"rgbn"` or `"sar"`: makes aliases such as `red` known, and without `band_names` stands
            for all its bands in its own order.
        alpha: `"drop"` a band that a TIFF declares alpha, or keep it as a `"band"`.
        mean: Mean of each chosen band in stored values, taken off; empty computes it from the
            training images, or for 8-bit images takes the encoder's own.
        std: Standard deviation of each chosen band, divided by; given together with `mean`.
        radar: `"none"`, or how radar images are stored: `"amplitude"`, `"power"` or `"decibel"`.
            They become decibels, clipped and scaled to 0..1.
        clip: Percentiles of the training images that radar bands are clipped at; empty is 1 and 99.
        looks: Looks of the speckle that `train.augment` adds: fewer are rougher; None draws 1 to 10
            anew for every image.
    """

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
    """Which encoder, and what is taken from it.

    Args:
        name: Hub id, local folder or `dinov2-small`.
        pooling: `"class"` token, `"mean"` of the patches, `"both"` side by side, or None for both
            where the encoder has a class token and the mean where it has none.
        stem: `"by-wavelength"` shows an RGB encoder any bands: its kernels go to the bands nearest
            red, green and blue, all others get a new kernel that learns; None takes the encoder's
            bands only.
        new_bands: How new kernels start: `"zero"` or `"mean"` of the RGB ones (`backbones.stem`).
        new_bands_rate: Learning rate of new kernels, as a share of `train.lr`, in (0, 1]: at the
            full rate they outgrow the pretrained ones within an epoch.
        wavelengths: Of each chosen band in µm, 0 for one that has none (radar); empty takes the
            data's.
        options: Of encoders that have some: `timestep`, `draws` and `prompt` of Stable Diffusion,
            `bands` and `level` of ukis-csmask.
    """

    name: str = "dinov2-small"
    pooling: str | None = None
    stem: str | None = None
    new_bands: str = "zero"
    new_bands_rate: float = 0.1
    wavelengths: list[float] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProbeOptions:
    """The head on frozen features, the same for every row of the table.

    Args:
        loss: Loss of a linear head, or any other head of `tailora methods probes`, such as
            `"crt"`; `--probe` on the command line.
        loss_options: Options of the loss; the other heads have none.
        l2: Penalties of linear heads to choose from by validation macro-F1.
    """

    loss: str = "logit-adjusted"
    loss_options: dict[str, Any] = field(default_factory=dict)
    l2: list[float] = field(default_factory=lambda: [1.0, 0.3, 0.1, 0.03, 0.01, 0.003])


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a run, apart from the data themselves.

    Args:
        method: One of `tailora methods methods` that is not for `compare` only.
        seed: Seeds splits, weights, order and intervals.
        data: How images are read.
        backbone: Which encoder.
        adapter: Which adapter, for `"deblora"` and `"lora"`.
        train: How the base adapter or the whole encoder learns.
        deblora: How features are de-biased.
        probe: The head.
        evaluate: How the result is measured.
        compute: Precision and memory.
    """

    method: str = "deblora"
    seed: int = 0
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
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise ConfigError(f"seed must lie in [0, {_LARGEST_SEED}], got {self.seed}")
        for key, (low, high) in RANGES.items():
            section, _, name = key.partition(".")
            _check_range(key, getattr(getattr(self, section), name), low, high)

    def override(self, values: Mapping[str, Any]) -> "Recipe":
        """Give a new recipe with dotted keys replaced, e.g. `{"deblora.balance": 2.0}`.

        Raises:
            ConfigError: Unknown key (the nearest is named), or a value of the wrong type or range.
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
        """Give every key with its value, sections dotted."""
        return _flatten(dataclasses.asdict(self), set(recipe_keys()))

    def to_toml(self) -> str:
        """Write the recipe as TOML; a key that is None (decided later) is left out."""
        return tomli_w.dumps(_without_none(dataclasses.asdict(self)))


def recipe_keys() -> dict[str, Any]:
    """Every key of a recipe with its default, in order."""
    keys: dict[str, Any] = {}
    default = Recipe()
    for item in dataclasses.fields(Recipe):
        value = getattr(default, item.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            for inner in dataclasses.fields(value):
                keys[f"{item.name}.{inner.name}"] = getattr(value, inner.name)
        else:
            keys[item.name] = value
    return keys


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a TOML recipe into dotted keys.

    Raises:
        ConfigError: No such file, not TOML, longer than any recipe, or an unknown key.
    """
    try:
        with path.open("rb") as file:  # which may be a pipe, and may never end
            raw = file.read(_LARGEST_FILE + 1)
        if len(raw) > _LARGEST_FILE:
            raise ConfigError(f"recipe {str(path)!r} is no recipe: more than {_LARGEST_FILE} bytes")
        content = parse_toml(raw.decode("utf-8").replace("\r\n", "\n"))
    except FileNotFoundError as error:
        raise ConfigError(f"no recipe at {str(path)!r}") from error
    except OSError as error:
        raise ConfigError(f"cannot read recipe {str(path)!r}: {error.strerror}") from error
    except ConfigError:
        raise
    except ValueError as error:  # bytes that are no text, text that is no TOML, endless digits
        raise ConfigError(f"recipe {str(path)!r} is not TOML: {error}") from error
    flat = _flatten(content, set(recipe_keys()))
    for key in flat:
        _key_type(key)
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
    """Give a value the type of its recipe key, or raise a `ConfigError`."""
    return _cast(key, value, _key_type(key))


def _flatten(content: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        is_section = isinstance(value, Mapping) and key not in known
        for name, inner in value.items() if is_section else [(None, value)]:
            flat[f"{key}.{name}" if name is not None else key] = inner
    return flat


def _key_type(key: str) -> Any:
    if key not in recipe_keys():
        raise unknown_name("recipe key", key, recipe_keys())
    section, _, name = key.rpartition(".")
    owner = type(getattr(Recipe(), section)) if section else Recipe
    return typing.get_type_hints(owner)[name]


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
    """Refuse what is too large or no number; what is too small, those refuse who know why."""
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
