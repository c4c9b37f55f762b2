"""Whole debLoRA against LoRA alone."""

from typing import Any, Final

from benchmarks.page.tables import counted, short, spread, table

STAGE_FIVE: Final = "stage-five"
FIT_ON: Final = "deblora.fit_on"


def whole_method(results: dict[str, Any]) -> str:
    """Show seconds of whole runs, and what learning from all samples buys."""
    found = results["whole-method"]
    rows = [_variant(name, variant) for name, variant in found["variants"].items()]
    head = ("stage 5 learns from", "LoRA alone, s", "stage 5, s", "features, s", "rest, s",
            "whole / LoRA alone", "range")  # fmt: skip
    images = found["images"]
    text = (
        "## Whole debLoRA against LoRA alone\n\nSeconds of all stages of a debLoRA run over those "
        "of the LoRA it stands on, features and probe of the pretrained encoder in both; "
        f"`{found['data']}`, {images['train']} / {images['val']} / {images['test']} images, "
        f"medians of {counted(len(found['variants']['tail']['runs']), 'run')} each, in turns. The "
        f"goal is at most {found['goal']} with stage 5 on the tail.\n\n" + table(head, rows)
    )
    return text + (_scores(results[STAGE_FIVE]) if STAGE_FIVE in results else "")


def _variant(name: str, variant: dict[str, Any]) -> tuple[str, ...]:
    own = variant["own_seconds"]
    features = sum(value for stage, value in own.items() if stage.endswith("features"))
    rest = sum(own.values()) - features - own["train"]
    epochs = variant["changes"]["deblora.epochs"]
    return (
        f"{name}, {epochs} epochs", short(variant["lora_alone_seconds"]), short(own["train"]),
        short(features), short(rest), f"{variant['ratio']:.2f}", spread(*variant["ratio_range"]),
    )  # fmt: skip


def _scores(result: dict[str, Any]) -> str:
    """Say what seconds buy, from the experiment that compared both over seeds."""
    rows = []
    for data, found in result["sets"].items():
        base = _row(found, lambda row: row["method"] == "lora")
        for row in (r for r in found["rows"] if FIT_ON in r["changes"] and _same_probe(r)):
            changes = row["changes"]
            rows.append((
                data, f"{changes[FIT_ON]}, {changes['deblora.epochs']} epochs",
                short(row["seconds"]["own"]),
                f"{row['seconds']['total'] / base['seconds']['total']:.2f}",
                _points(row["validation"]["tail"]), _points(row["validation"]["all"]),
                _points(row["scores"]["tail"]["mean"]), _points(row["scores"]["all"]["mean"]),
            ))  # fmt: skip
    head = ("data", "stage 5 learns from", "own seconds", "whole / LoRA alone", "val, tail",
            "val, all", "test, tail", "test, all")  # fmt: skip
    return (
        "\nWhat all samples cost and buy, macro-F1 in points under the logit-adjusted probe, means "
        "over seeds (experiment `stage-five`; what else ran on the machine is not recorded, so its "
        "seconds are rough):\n\n" + table(head, rows)
    )


def _row(found: dict[str, Any], wanted: Any) -> dict[str, Any]:
    return next(row for row in found["rows"] if wanted(row) and _same_probe(row))


def _same_probe(row: dict[str, Any]) -> bool:
    return row["probe"] == "logit-adjusted"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"
