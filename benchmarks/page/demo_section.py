"""Where the time of the demo goes."""

from typing import Any

from benchmarks.page.tables import counted, short, table


def demo(results: dict[str, Any]) -> str:
    """Show stages of the first and the last published demo, and what is inside a step."""
    found = results["demo-profile"]
    demos = found["demos"]
    shown = [demos[0], demos[-1]] if len(demos) > 1 else demos
    names = dict.fromkeys(name for one in shown for name in one["seconds"])
    rows = [(name, *(_seconds(one, name) for one in shown)) for name in names]
    wholes = [sum(one["seconds"].values()) for one in shown]
    rows.append(("**all stages**", *(f"**{short(whole)}** s" for whole in wholes)))
    rows.append(("whole debLoRA over LoRA alone", *(f"{_over_lora(one):.2f}" for one in shown)))
    words = ("before", "now") if len(shown) > 1 else ("now",)
    head = [
        f"{word}: commit {one['commit']}, {one['cores']} cores"
        for word, one in zip(words, shown, strict=True)
    ]
    return (
        "## Where the time of `make demo` goes\n\nSeconds of each stage and their share, as the "
        "runs recorded them that were published with README (`benchmarks/results/demo.json` and "
        "its history). The machine was not equally fast each time: shares and the last line can be "
        "compared. The goal is at most 5 minutes on 2 cores.\n\n"
        + table(("stage", *head), rows)
        + "\n" + _inside(found)
    )  # fmt: skip


def _seconds(one: dict[str, Any], name: str) -> str:
    seconds = one["seconds"].get(name)
    if seconds is None:
        return "–"
    return f"{short(seconds)} s, {seconds / sum(one['seconds'].values()):.0%}"


def _over_lora(one: dict[str, Any]) -> float:
    seconds = one["seconds"]
    own = sum(value for name, value in seconds.items() if name.startswith("deblora: "))
    return sum(seconds.values()) / (sum(seconds.values()) - own)


def _inside(found: dict[str, Any]) -> str:
    kinds = found["groups"]
    groups = next(iter(kinds.values()))["by_group"]
    rows = [(group, *(_share(kind, group) for kind in kinds.values())) for group in groups]
    whole = [f"{1000 * kind['seconds']:.0f} ms" for kind in kinds.values()]
    rows.append(("**whole**", *whole))
    return (
        f"Inside a step: {found['encoder']}, {found['image_size']} px, batch "
        f"{found['batch_size']}, rank {found['rank']}, {counted(found['steps'], 'step')} under "
        "torch's profiler. *Outside operators* is Python, autograd's book-keeping and what comes "
        "before the first step; *data* is reading a batch of decoded images.\n\n"
        + table(("operators", *kinds), rows)
    )  # fmt: skip


def _share(kind: dict[str, Any], group: str) -> str:
    seconds = kind["by_group"][group]
    return f"{1000 * seconds:.1f} ms, {seconds / kind['seconds']:.0%}"
