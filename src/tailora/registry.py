"""Registry of names: the command line and recipes find methods here, Python imports them.

A family's `__all__` is its registry, read from source without importing, and a signature its
configuration: positional parameters are set by the data and the run, keyword-only ones are the
user's options. `register` adds to it, and so do packages with an entry point in the group
`tailora.plugins`: a function without arguments that calls `tailora.register`.
"""

import importlib
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Final

from tailora import source
from tailora.errors import ConfigError, TailoraError, unknown_name

FAMILIES: Final = {
    "losses": "loss",
    "samplers": "sampler",
    "heads": "head",
    "experts": "expert",
    "contrastive": "contrastive",
    "augment": "mix",
    "optim": "optimizer",
    "detection": "detection method",
}
"""Shelves of components for recipes, and the singular name of each."""
_PACKAGES: Final = FAMILIES | {
    "methods": "method",
    "metrics": "metric",
    "tasks": "task",
    "backbones": "encoder",
}
_ONLY_ADDED: Final = ("backbones",)  # tailora's own are found by the form of their name
_KINDS: Final = ("Loss", "Sampler", "Head")
_SELF_NAMED: Final = ("methods", "tasks", "heads")
OWN_HEAD: Final = "own"
"""Name of the head that an adapter was trained with."""
OBJECT: Final = "object:"
"""Before the class of an object that stands in a recipe in the place of a name."""

Method = Callable[..., Any]


@dataclass(frozen=True)
class Entry:
    """What is known about a method without importing it.

    Attributes:
        module: Where it is defined.
        symbol: Its name there.
        document: Its docstring.
        options: Keyword-only parameters with their defaults, `Parameter.empty` where one is needed.
        attributes: Constant attributes of a class.
        own: Those of them that it has not inherited.
        part: The object itself, if it was registered.
    """

    module: str
    symbol: str
    document: str
    options: Mapping[str, Any]
    attributes: Mapping[str, Any]
    own: Mapping[str, Any]
    part: Method | None = None

    @property
    def summary(self) -> str:
        """Summary in one line: the first of its docstring."""
        return self.document.partition("\n")[0]

    @property
    def reference(self) -> str:
        """Paper and equation, on one line: the docstring's last section."""
        return " ".join(self.document.partition("\nReference:\n")[2].split())


def entries(family: str) -> dict[str, Entry]:
    """Return everything on a shelf by name: tailora's own, then registered ones.

    Raises:
        ConfigError: No such family, or a plugin does not load.
    """
    if family not in _PACKAGES:
        raise unknown_name("family", family, _PACKAGES)
    load_plugins()
    shipped = {} if family in _ONLY_ADDED else _shipped(family)
    return shipped | _REGISTERED.get(family, {})


@cache
def _shipped(family: str) -> dict[str, Entry]:
    package = f"tailora.{family}"
    homes = source.exports(package)
    found: dict[str, Entry] = {}
    for symbol in source.constant(package, "__all__"):
        of = source.definition(homes[symbol], symbol)
        if of is None or (family == "metrics" and of.is_class):
            continue
        attributes = of.attributes()
        name = attributes.get("name") or _spell(symbol)
        found[name] = Entry(
            of.module, symbol, of.document, of.options(), attributes, of.attributes(own=True)
        )
    return found


def names(family: str) -> list[str]:
    """List the methods of a family, e.g. `"losses"`, in alphabetical order.

    Example:
        >>> "balanced-softmax" in names("losses")
        True
    """
    return sorted(entries(family))


def find(family: str, name: str) -> Method:
    """Return the class or function called `name`.

    Raises:
        ConfigError: No such family or name; the message suggests the nearest one.
    """
    known = entries(family)
    if name not in known:
        raise missing(_PACKAGES[family], name, known)
    entry = known[name]
    return entry.part or getattr(importlib.import_module(entry.module), entry.symbol)


def kind(family: str) -> str:
    """Return what one of a family is called."""
    return _PACKAGES[family]


def missing(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """Build the error for a name that is not there; objects must be given again."""
    if name.startswith(OBJECT):
        argument = {"encoder": "backbone"}.get(kind, kind)
        return ConfigError(
            f"{kind} {name!r} is an object that was given in Python: give it again, as "
            f"{argument}=..., to tailora.fit or tailora.load_run"
        )
    return unknown_name(kind, name, known)


@contextmanager
def lent(parts: Mapping[tuple[str, str], Method]) -> Iterator[None]:
    """Let names stand for parts within this context.

    Args:
        parts: By family and name.
    """
    load_plugins()  # which may not come in between: a failing one takes back what is there
    for (family, name), part in parts.items():
        _REGISTERED.setdefault(family, {})[name] = _entry_of(part)
    try:
        yield
    finally:
        for family, name in parts:
            _REGISTERED[family].pop(name, None)


def method_name(method: Method) -> str:
    """Return the command-line name of a method: kebab case without Loss, Sampler or Head.

    Example:
        >>> from tailora.losses import LDAMLoss
        >>> method_name(LDAMLoss)
        'ldam'
    """
    for shelf in _REGISTERED.values():
        for name, entry in shelf.items():
            if entry.part is method:
                return name
    own = vars(method).get("name")
    return own if isinstance(own, str) else _spell(method.__name__)


def _spell(symbol: str) -> str:
    stem = re.sub(f"({'|'.join(_KINDS)})$", "", symbol)
    # a hyphen before each capitalised word, but not inside LDAM or ResLT, nor CutMix, SupCon, PaCo
    return re.sub(r"(?<!^)(?!Mix|Con$|Co$)(?=[A-Z][a-z])", "-", stem).lower().replace("_", "-")


def needs(method: Method) -> tuple[str, ...]:
    """Return a method's positional parameters."""
    return tuple(p.name for p in _parameters(method) if p.kind is p.POSITIONAL_OR_KEYWORD)


def options(method: Method) -> dict[str, Any]:
    """Return the keyword-only parameters with their defaults."""
    return {p.name: p.default for p in _parameters(method) if p.kind is p.KEYWORD_ONLY}


def check_options(method: Method, chosen: Iterable[str]) -> None:
    """Reject options that a method does not have.

    Raises:
        ConfigError: Such an option; the message has those there are, or why it is refused.
    """
    known = options(method)
    for option in chosen:
        if option not in known:
            if reason := refusal(method, option):
                raise ConfigError(reason)
            raise ConfigError(
                f"{method_name(method)} has no option {option!r}; it has "
                f"{', '.join(known) or 'none'}"
            )


def refusal(method: Method, option: str) -> str:
    """Say why a method refuses an option that others have (`refuses`); empty if it does not."""
    reason = getattr(method, "refuses", {}).get(option)
    return f"{method_name(method)} takes no {option}: {reason}" if reason else ""


def build(method: Method, facts: Mapping[str, object], chosen: Mapping[str, object]) -> Any:
    """Call a method with the facts it needs and the user's options.

    Args:
        method: From `find`.
        facts: All that is known, e.g. `counts`, `labels`, `num_classes`, `rank`; each method takes
            those it needs.
        chosen: Options by name; others keep their defaults.

    Raises:
        ConfigError: An unknown option or one of the wrong type, or a missing fact.
    """
    check_options(method, chosen)
    known = options(method)
    positional = [p for p in _parameters(method) if p.name not in known]
    lacking = [p.name for p in positional if p.name not in facts and p.default is p.empty]
    if lacking:
        raise ConfigError(f"{method_name(method)} needs {', '.join(lacking)}, which is unknown")
    given = {p.name: facts[p.name] for p in positional if p.name in facts}
    try:
        return method(**given, **chosen)
    except TypeError as error:
        if not chosen:
            raise
        raise ConfigError(f"{method_name(method)} cannot use {dict(chosen)}: {error}") from error


def summary(method: Method) -> str:
    """Return a one-line summary: the first line of the docstring."""
    return _entry_of(method).summary


def reference(method: Method) -> str:
    """Return paper and equation, on one line: the docstring's last section."""
    return _entry_of(method).reference


def method_facts() -> dict[str, dict[str, Any]]:
    """Return the declarations of the methods, by name, in alphabetical order.

    Read from source, so that names, titles and flags are known without importing torch.
    """
    return {name: dict(entry.attributes) for name, entry in sorted(entries("methods").items())}


def method_title(name: str) -> str:
    """Write a method's name as its authors do.

    Example:
        >>> method_title("deblora"), method_title("something else")
        ('debLoRA', 'something else')
    """
    known = entries("methods")
    return str(known[name].attributes.get("title", name)) if name in known else name


def row_title(method: str, head: str | None) -> str:
    """Name a row of results: its method, and that it kept the head that it was trained with.

    Example:
        >>> row_title("lora", "own"), row_title("lora", "logit-adjusted")
        ('LoRA with its own head', 'LoRA')
    """
    title = method_title(method)
    return f"{title} with its own head" if head == OWN_HEAD else title


def row_name(method: str, head: str | None) -> str:
    """The same as short as the names in recipes, for terminals.

    Example:
        >>> row_name("lora", "own"), row_name("lora", "logit-adjusted")
        ('lora, own head', 'lora')
    """
    return f"{method}, own head" if head == OWN_HEAD else method


def method_style(name: str) -> tuple[str, str] | None:
    """Colour and marker that a method itself asks for in figures, if it does and is there."""
    known = entries("methods")
    return known[name].own.get("style") if name in known else None


def method_base(name: str) -> str | None:
    """The method that another one is trained on, which it has to be better than; None of none."""
    known = entries("methods")
    before = known[name].attributes.get("stands_on", ()) if name in known else ()
    return before[-1] if before else None


def fitted_methods() -> tuple[str, ...]:
    """Return the methods that `fit` offers."""
    return tuple(name for name, of in method_facts().items() if not of.get("only_compared"))


def compared_methods() -> tuple[str, ...]:
    """Return the methods that `compare` offers: those of `fit` first."""
    fitted = fitted_methods()
    return (*fitted, *(name for name in method_facts() if name not in fitted))


def _parameters(method: Method) -> list[inspect.Parameter]:
    return list(inspect.signature(method).parameters.values())


# what others add


def register(family: str, name: str, part: Method) -> None:
    """Register your own component on a shelf, for recipes and the command line.

    Args:
        family: `"losses"`, `"samplers"`, `"heads"`, `"backbones"`, `"experts"`, `"contrastive"`,
            `"augment"`, `"optim"`, `"detection"`, `"methods"` or `"tasks"`.
        name: Lower case, e.g. `"my-loss"`.
        part: A class or function; its positional parameters are facts such as `counts`, its
            keyword-only parameters the options that a recipe may set.

    Raises:
        ConfigError: No such family, a name that is taken or not lower case, or a component of the
            wrong type.
    """
    if family not in _WANTED:
        raise unknown_name("family", family, _WANTED)
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", name):
        raise ConfigError(
            f"cannot register {name!r}: names consist of lower-case letters, digits and hyphens"
        )
    kind = f"{_PACKAGES[family]} {name!r}"
    wanted, fits = _WANTED[family]
    if not fits(part):
        raise ConfigError(f"{kind} must be {wanted}, got {part!r}")
    if family in _SELF_NAMED and getattr(part, "name", None) != name:
        raise ConfigError(f"{kind} must have name = {name!r} as an attribute of its class")
    if name in entries(family) or name in _elsewhere(family):
        raise ConfigError(f"{kind} exists already: register it under another name")
    _REGISTERED.setdefault(family, {})[name] = _entry_of(part)


def head_losses() -> list[str]:
    """Losses that a head can be fitted with to the end: all but those that follow a training."""
    shelf = entries("losses")
    return sorted(n for n in shelf if not shelf[n].attributes.get("follows_gradients"))


def head_texts() -> dict[str, str]:
    """What each head of `fit` and `compare` is, by name: one per loss, then the others."""
    homes = source.exports("tailora.heads.probes")
    found = [of.attributes() for at in homes.items() if (of := source.definition(at[1], at[0]))]
    losses = {
        name: f"linear head trained to convergence with the {name} loss" for name in head_losses()
    }
    own = {about["name"]: about["summary"] for about in found if "summary" in about}
    shelf = _REGISTERED.get("heads", {})
    added = {name: of.attributes.get("summary") or of.summary for name, of in shelf.items()}
    return losses | own | added


def _elsewhere(family: str) -> Iterable[str]:
    """Names that a new one would hide, beside those of its shelf."""
    if family in ("heads", "losses"):
        return head_texts()
    return source.table("tailora.backbones.load", "NAMES") if family == "backbones" else ()


_REGISTERED: dict[str, dict[str, Entry]] = {}
_LOADED: set[metadata.EntryPoint] = set()
NO_PLUGINS: Final = "TAILORA_NO_PLUGINS"


def load_plugins() -> None:
    """Load the plugins of installed packages, once; not if `TAILORA_NO_PLUGINS` is 1.

    Raises:
        ConfigError: One of them fails; none of its components are registered.
    """
    if os.environ.get(NO_PLUGINS, "0") not in ("", "0"):
        return
    for point in _plugins():
        if point not in _LOADED:
            with _all_or_nothing(point):
                point.load()()


@cache
def _plugins() -> tuple[metadata.EntryPoint, ...]:
    return tuple(metadata.entry_points(group="tailora.plugins"))


@contextmanager
def _all_or_nothing(point: metadata.EntryPoint) -> Iterator[None]:
    before = {family: dict(shelf) for family, shelf in _REGISTERED.items()}
    _LOADED.add(point)  # first, since it asks for names of its own
    try:
        yield
    except Exception as error:
        _LOADED.discard(point)
        _REGISTERED.clear()
        _REGISTERED.update(before)
        package = point.dist.name if point.dist else point.value
        what = str(error) if isinstance(error, TailoraError) else f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"plugin {point.name!r} of package {package!r} does not load ({what}): uninstall the "
            f"package, or set {NO_PLUGINS}=1 to disable plugins"
        ) from error


def _entry_of(part: Method) -> Entry:
    shipped = [entry for family in _SELF_NAMED for entry in _shipped(family).values()]
    keys = {key for entry in shipped for key in entry.attributes}
    attributes = {key: getattr(part, key) for key in keys if hasattr(part, key)}
    said = part.__doc__  # which a class does not inherit: that of its base would not be about it
    document = inspect.cleandoc(said) if said else f"{part.__name__} of {part.__module__}"
    own = {key: value for key, value in attributes.items() if key in vars(part)}
    return Entry(part.__module__, part.__name__, document, options(part), attributes, own, part)


def _is_a(module: str, name: str) -> Callable[[object], bool]:
    """Return whether something is a subclass of a lazily imported class."""

    def fits(part: object) -> bool:
        base = getattr(importlib.import_module(module), name)
        return isinstance(part, type) and issubclass(part, base) and not inspect.isabstract(part)

    return fits


def _has(*methods: str) -> Callable[[object], bool]:
    # in dir, since every class has the __call__ of its own class
    return lambda part: isinstance(part, type) and set(methods) <= set(dir(part))


def _named(part: object) -> bool:
    return isinstance(part, type) or inspect.isroutine(part)


_MODULE: Final = ("a class of torch.nn.Module", _is_a("torch.nn", "Module"))
_WANTED: Final[Mapping[str, tuple[str, Callable[[object], bool]]]] = {
    "losses": _MODULE,
    "experts": _MODULE,
    "contrastive": _MODULE,
    "samplers": (
        "a class with __iter__, __len__ and set_epoch, such as those of tailora.samplers",
        _has("__iter__", "__len__", "set_epoch"),
    ),
    "heads": (
        "a subclass of tailora.heads.probe.Probe that defines fit and empty",
        _is_a("tailora.heads.probe", "Probe"),
    ),
    "backbones": ("a function or a class that returns an encoder", _named),
    "augment": ("a class whose objects are called with a batch", _has("__call__")),
    "optim": ("a function that makes a torch optimiser", _named),
    "detection": ("a function or a class", _named),
    "methods": (
        "a subclass of tailora.methods.method.Method",
        _is_a("tailora.methods.method", "Method"),
    ),
    "tasks": ("a subclass of tailora.tasks.task.Task", _is_a("tailora.tasks.task", "Task")),
}
