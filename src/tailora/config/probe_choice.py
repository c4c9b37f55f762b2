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
        layers: In place of the recipe's `probe.layers`; None keeps those.
        detail: In place of the recipe's `probe.detail`; None keeps that.
    """

    name: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    views: int | None = None
    layers: list[int] | None = None
    detail: str | None = None

    @property
    def seen(self) -> dict[str, Any]:
        """Recipe keys for the features that it sees, where it names them."""
        named = {
            "probe.views": self.views, "probe.layers": self.layers, "probe.detail": self.detail
        }  # fmt: skip
        return {key: value for key, value in named.items() if value is not None}


def parse_probe(text: str) -> ProbeChoice:
    """Read `name:option=value:...`; values are TOML. Every head has `views`, `layers` and `detail`.

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
    seen = [options.pop(key, None) for key in ("views", "layers", "detail")]
    return ProbeChoice(text, kind, options, *seen)


def own_probe(recipe: Recipe) -> ProbeChoice:
    """Return the probe of a recipe."""
    options = recipe.probe.loss_options
    name = ":".join([recipe.probe.loss, *(f"{k}={v}" for k, v in options.items())])
    return ProbeChoice(name, recipe.probe.loss, dict(options))
