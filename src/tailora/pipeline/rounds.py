"""How the rounds of debLoRA are called: each de-biases what the one before it learnt.

All but the last lie in folders of their own beneath the last, which is the stage itself, so that a
run of one round is laid out as ever and an interrupted one goes on with the round it was in.
"""

from tailora.debias.options import DebiasOptions


def round_stage(options: DebiasOptions, number: int) -> str:
    """Name the stage that holds a round's adapter, from 1; before the first there is LoRA.

    Example:
        >>> [round_stage(DebiasOptions(rounds=3), number) for number in range(4)]
        ['lora', 'deblora/round-1', 'deblora/round-2', 'deblora']
    """
    if number == 0:
        return "lora"
    return "deblora" if number == options.rounds else f"deblora/round-{number}"


def source_stage(options: DebiasOptions, number: int) -> str:
    """Name the stage whose features a round clusters and moves.

    Example:
        >>> [source_stage(DebiasOptions(source="pretrained", rounds=2), n) for n in (1, 2)]
        ['zero-shot', 'deblora/round-1']
    """
    if number == 1 and options.source == "pretrained":
        return "zero-shot"
    return round_stage(options, number - 1)
