"""Which head, with which options, as given in a recipe or on the command line."""

from dataclasses import dataclass, field
from typing import Any

from tailora.config.recipe import Recipe
from tailora.errors import ConfigError
from tailora.storage import parse_value


@dataclass(frozen=True)
class ProbeChoice:
    """A head by name.

    Args:
        name: As shown, e.g. `"logit-adjusted:tau=1.5"`.
        kind: One of `heads.probes.probe_names()`.
        options: Its options.
        views: In place of the recipe's `probe.views`; None keeps that.
    """

    name: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    views: int | None = None


def parse_probe(text: str) -> ProbeChoice:
    """Read `name:option=value:...`; values are TOML, and `views` is an option of every head.

    Raises:
        ConfigError: An option without a value, or with one that cannot be read.

    Example:
        >>> parse_probe("logit-adjusted:tau=1.5").options
        {'tau': 1.5}
    """
    kind, *assignments = text.split(":")
    options: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"a probe is name:option=value, got {text!r}")
        try:
            options[key] = parse_value(value)
        except ValueError as error:
            raise ConfigError(f"option {key} of a probe cannot be read: {error}") from error
    return ProbeChoice(text, kind, options, options.pop("views", None))


def own_probe(recipe: Recipe) -> ProbeChoice:
    """Return the probe of a recipe."""
    options = recipe.probe.loss_options
    name = ":".join([recipe.probe.loss, *(f"{k}={v}" for k, v in options.items())])
    return ProbeChoice(name, recipe.probe.loss, dict(options))
