"""What tasks share that decide about the tokens of an encoder."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tailora.errors import BackboneError

if TYPE_CHECKING:
    from tailora.backbones import AnyEncoder, Encoder
    from tailora.data import Dataset
    from tailora.decisions import Decisions


def token_encoder(encoder: "AnyEncoder", task: str) -> "Encoder":
    """Return an encoder that has tokens.

    Args:
        encoder: Of the run.
        task: Name of the task that needs them, for the message.

    Raises:
        BackboneError: It is a module from images to features.
    """
    from tailora.backbones import Encoder

    if not isinstance(encoder, Encoder):
        raise BackboneError(
            f"task {task!r} needs the tokens of a vision encoder, which a module from "
            "images to features does not give; choose an encoder of `tailora methods backbones`"
        )
    return encoder


def token_names(data: "Dataset", decisions: "Decisions", columns: int) -> Sequence[str]:
    """Image, row and column of the token of each decision, in a grid of so many columns."""
    ids = {i: data.source.id(int(i)) for i in decisions.samples}
    pairs = zip(decisions.sample, decisions.place, strict=True)
    return [f"{ids[i]}#{place // columns},{place % columns}" for i, place in pairs]
