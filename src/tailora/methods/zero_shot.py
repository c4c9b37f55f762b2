"""The pretrained encoder, not adapted."""

from typing import final

from tailora.methods.method import INPUT, Method


@final
class ZeroShot(Method):
    """The pretrained encoder, not adapted, with a linear probe."""

    name = "zero-shot"
    title = "zero-shot"
    summary = "the pretrained encoder, not adapted, with a linear probe"
    uses = INPUT
    stands_on = ()
    trains = False
    has_adapter = False
    layered = True
    objectives = True  # none is used, so none is rejected
    style = ("#8a94a0", "D")
