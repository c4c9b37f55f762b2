"""Put a finished demo into README.md and docs/images: table, seconds, pictures, and their JSON.

    python scripts/publish_demo.py runs/demo   # after a new demo
    python scripts/publish_demo.py             # rewrites the committed one

The README text between the markers is generated; `tests/test_project.py` checks it and the picture
of scores against the JSON.
"""

import io
import json
import re
import sys
from pathlib import Path

from rich.console import Console

from tailora.metrics import RunMetrics
from tailora.registry import OWN_HEAD

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "demo.json"
SCORES = ROOT / "docs" / "images" / "demo-scores.svg"
README = ROOT / "README.md"
GROUPS = ("head", "middle", "tail")
LABELS = ("ordinary fine-tuning", "tailora's default")  # the rows of the demo, in order
COLOURS = ("#d55e00", "#0072b2")  # after Okabe and Ito


def main() -> None:
    """Publish the results of a run."""
    if sys.argv[1:]:
        run = Path(sys.argv[1])
        record = json.loads((run / "run.json").read_text("utf-8"))
        metrics = json.loads((run / "metrics.json").read_text("utf-8"))
        content = json.dumps({"run": record, "metrics": metrics}, indent=1)
        RESULT.write_text(content + "\n", "utf-8")
    SCORES.write_text(scores_picture(RESULT), "utf-8")
    README.write_text(with_demo(README.read_text("utf-8"), RESULT), "utf-8")


def scores_picture(result: Path) -> str:
    """Draw macro-F1 of head, middle and tail with intervals, one line per method, as SVG."""
    metrics = RunMetrics.from_json(json.loads(result.read_text("utf-8"))["metrics"])
    left, right, top, step, gap = 266, 730, 46, 18, 20
    sizes = {row.name: row.n_train for row in metrics.methods[0].per_class}
    parts, y = [], top
    for group in GROUPS:
        classes = metrics.groups[group]
        counts = sorted(sizes[name] for name in classes)
        middle = y + step * (len(metrics.methods) - 1) / 2
        parts += [
            f'<text x="{left - 16}" y="{middle - 1:g}" class="group">{group}</text>',
            f'<text x="{left - 16}" y="{middle + 14:g}" class="note">{len(classes)} classes, '
            f"{counts[0]} to {counts[-1]} training images</text>",
        ]
        for row, colour in zip(metrics.methods, COLOURS, strict=True):
            low, high = row.macro_f1_interval[group]
            x, a, b = (left + (right - left) * v for v in (row.macro_f1[group], low, high))
            parts += [
                f'<path d="M{a:.1f} {y}H{b:.1f}" stroke="{colour}" stroke-width="3"/>',
                f'<circle cx="{x:.1f}" cy="{y}" r="5.5" fill="{colour}"/>',
            ]
            y += step
        y += gap
    bottom = y - gap
    for tick in range(0, 101, 20):
        x = left + (right - left) * tick / 100
        parts[:0] = [f'<path d="M{x:g} {top - 14}V{bottom}" stroke="#e4e7eb"/>']
        parts += [f'<text x="{x:g}" y="{bottom + 18}" class="tick">{tick}</text>']
    for place, (label, colour) in enumerate(zip(LABELS, COLOURS, strict=True)):
        x = left + 190 * place
        parts += [
            f'<circle cx="{x + 6}" cy="16" r="5.5" fill="{colour}"/>',
            f'<text x="{x + 18}" y="21" class="key">{label}</text>',
        ]
    axis = f"macro-F1 in points, with {metrics.bootstrap.confidence:.0%} intervals"
    style = (
        "text{font:13px system-ui,sans-serif;fill:#1f2933}.group{font-weight:600}"
        ".note,.tick{fill:#52606d;font-size:12px}.group,.note{text-anchor:end}"
        ".tick{text-anchor:middle}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {bottom + 48}" role="img">',
            f"<title>{axis}: {_in_words(metrics)}</title>",
            f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>',
            *parts,
            f'<text x="{(left + right) / 2:g}" y="{bottom + 38}" class="tick">{axis}</text>',
            "</svg>\n",
        ]
    )


def _in_words(metrics: RunMetrics) -> str:
    scores = (
        f"{label} " + ", ".join(f"{group} {100 * row.macro_f1[group]:.1f}" for group in GROUPS)
        for label, row in zip(LABELS, metrics.methods, strict=True)
    )
    return "; ".join(scores)


def with_demo(readme: str, result: Path) -> str:
    """Fill the demo's markers in the README from a committed result."""
    content = json.loads(result.read_text("utf-8"))
    record, metrics = content["run"], RunMetrics.from_json(content["metrics"])
    seconds = sum(stage["seconds"] for stage in record["stages"])
    peak = max(stage["peak_memory_mb"] for stage in record["stages"])
    machine = record["machine"]
    block = (
        f"```text\n{table_text(metrics)}```\n\n"
        f"Seed {record['seed']}, {record['dataset']['n_train']} training and "
        f"{record['dataset']['n_test']} test crops of {len(metrics.classes)} classes, "
        f"{record['backbone']['name']} ({record['backbone']['source']}). The run took "
        f"{seconds / 60:.1f} minutes and at most {peak / 1024:.1f} GB on {machine['cores']} cores "
        f"({machine['cpu']}). {_verdict(metrics)}"
    )
    return re.sub(
        r"(<!-- demo -->\n).*?(\n<!-- /demo -->)",
        lambda match: f"{match[1]}{block}{match[2]}",
        readme,
        flags=re.DOTALL,
    )


def table_text(metrics: RunMetrics) -> str:
    """The table as the command prints it."""
    console = Console(file=io.StringIO(), width=110, record=True)
    console.print(metrics.table())
    lines = console.export_text().splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _verdict(metrics: RunMetrics) -> str:
    ordinary, default = metrics.methods
    (pair,) = metrics.paired
    assert (ordinary.head, pair.rows) == (OWN_HEAD, (default.row, ordinary.row))
    change, ends = pair.macro_f1_difference["tail"], pair.interval["tail"]
    if change is None or ends is None:
        return ""
    numbers = f"{100 * change:+.1f} points [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"
    claim = (
        "so no gain can be claimed" if ends[0] <= 0 <= ends[1]
        else "a gain" if ends[0] > 0 else "a loss"
    )  # fmt: skip
    return f"Over ordinary fine-tuning (the first row), tail macro-F1: {numbers}, {claim}."


if __name__ == "__main__":
    main()
