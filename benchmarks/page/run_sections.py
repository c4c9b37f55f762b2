"""How the benchmarks were run, and the ratios that have a goal."""

from typing import Any, Final

from benchmarks.page.tables import spread, table

QUIET: Final = 0.3  # jobs that ran before: less is nothing


def how_it_was_run(results: dict[str, Any]) -> str:
    """Say of every benchmark on what it was run, how, and beside what."""
    rows = []
    for name, result in results.items():
        if "benchmark" not in result:
            continue
        machine = result["machine"]
        asked = " ".join(result["arguments"]) if "arguments" in result else None
        rows.append((
            name, f"{machine['cores']} x {machine['cpu']}", str(machine.get("threads", "–")),
            _load(machine), "–" if asked is None else f"`{asked}`" if asked else "defaults",
            result["git"]["commit"][:7] + (", changed" if result["git"]["dirty"] else ""),
        ))  # fmt: skip
    head = ("result", "cores", "threads", "load before", "options", "commit")
    return "## How it was run\n\n" + _whole(results) + "\n\n" + table(head, rows)


def _whole(results: dict[str, Any]) -> str:
    if "bench" not in results:
        return (
            "`make bench` has not been run as a whole on a quiet machine yet: sizes that were made "
            "small by options, and the load that was there, stand in the table."
        )
    return f"`make bench` took {results['bench']['minutes']:.0f} minutes in all."


def _load(machine: dict[str, Any]) -> str:
    load = machine.get("load_average_at_start")
    if load is None:
        return "not recorded"
    return "quiet" if load < QUIET else f"{load:.1f}: other jobs ran"


def pairs(results: dict[str, Any]) -> str:
    """Show ratios of two ways that took turns in one run, beside their goals."""
    rows = []
    if "training" in results:
        found = results["training"]
        rows += [
            (text, f"{found[key]['speed_ratio']:.2f}", spread(*found[key]["speed_ratio_range"]),
             "at least 0.97")
            for key, text in (
                ("lora_epoch", "LoRA epoch: rate over a bare loop in memory"),
                ("extraction", "extraction: rate over a bare loop in memory"),
            )
        ]  # fmt: skip
    if "scenes" in results:
        speed = results["scenes"]["speed"]
        rows.append((
            "map of a scene: rate over the bare forward pass", f"{speed['speed_ratio']:.2f}",
            spread(*speed["speed_ratio_range"]), "at least 0.90",
        ))  # fmt: skip
    if "segmentation" in results:
        maps, training = (results["segmentation"][key] for key in ("maps", "training"))
        rows += [
            ("map of every pixel: rate over the bare forward pass", f"{maps['over_bare']:.2f}",
             f"{maps['cpu_over_bare']:.2f} by processor time", "at least 0.90"),
            ("map of every pixel: cells a second over those of a map of chips",
             f"{maps['over_chips']:,.0f}", "–", "at least 10"),
            ("head on maps of cached tokens: rate over a bare loop in memory",
             f"{training['speed_ratio']:.2f}", spread(*training["speed_ratio_range"]),
             "at least 0.90"),
        ]  # fmt: skip
    if "whole-method" in results:
        found = results["whole-method"]
        tail = found["variants"]["tail"]
        rows.append((
            "whole debLoRA: seconds over LoRA alone", f"{tail['ratio']:.2f}",
            spread(*tail["ratio_range"]), f"at most {found['goal']}",
        ))  # fmt: skip
    return (
        "## Pairs that took turns\n\nWarm-up first, medians over pairs. Details, and "
        "size-constrained K-means against scikit-learn and k-means-constrained, stand in "
        "[speed](results/speed.md).\n\n"
        + table(("what", "ratio", "range over pairs", "goal"), rows)
    )
