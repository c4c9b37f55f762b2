"""Put a finished demo into README.md: table, seconds, one picture, and the JSON they are from.

    python scripts/publish_demo.py runs/demo

Nothing in README between the markers is typed by hand; `tests/test_readme.py` holds it to the JSON.
"""

import base64
import io
import json
import re
import sys
from pathlib import Path

from rich.console import Console

from tailora.metrics import RunMetrics
from tailora.report.map_figure import map_picture
from tailora.report.reading import read_run_folder

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "demo.json"
PICTURE = ROOT / "docs" / "images" / "demo-map.svg"


def main() -> None:
    """Copy what a run printed and drew."""
    run = Path(sys.argv[1])
    record = json.loads((run / "run.json").read_text("utf-8"))
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"run": record, "metrics": metrics}, indent=1) + "\n", "utf-8")
    uri = map_picture(read_run_folder(run)).uri
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_bytes(base64.b64decode(uri.partition(",")[2]))
    readme = ROOT / "README.md"
    readme.write_text(with_demo(readme.read_text("utf-8"), RESULT), "utf-8")


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
        f"{record['backbone']['name']} ({record['backbone']['source']}); the stages took "
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
    pair = next(p for p in metrics.paired if (p.method, p.against) == ("deblora", "lora"))
    change, ends = pair.macro_f1_difference["tail"], pair.interval["tail"]
    if change is None or ends is None:
        return ""
    numbers = f"{100 * change:+.1f} points [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"
    claim = (
        "so no gain can be claimed here" if ends[0] <= 0 <= ends[1]
        else "a gain" if ends[0] > 0 else "a loss"
    )  # fmt: skip
    return f"debLoRA against LoRA with the same probe, tail macro-F1: {numbers}, {claim}."


if __name__ == "__main__":
    main()
