"""Options of an augmentation, as given in `train.augment_options`."""

from collections.abc import Mapping
from typing import Any

from tailora.errors import ConfigError, unknown_name


def check_augment_options(
    name: str, options: Mapping[str, Any], known: Mapping[str, tuple[type, ...]]
) -> None:
    """Reject options that an augmentation does not have.

    Args:
        name: Of the augmentation.
        options: As given.
        known: Types of each option that there is; the last is told.

    Raises:
        ConfigError: An option is unknown (the nearest is named), or of another type.
    """
    for option, value in options.items():
        if option not in known:
            raise unknown_name(f"option of train.augment={name}", option, known)
        types = known[option]
        if isinstance(value, bool) != (bool in types) or not isinstance(value, types):
            raise ConfigError(
                f"train.augment_options.{option} must be {types[-1].__name__}, got {value!r}"
            )
