"""Ranking, other class shares, and the collapse of features."""

from collections.abc import Mapping
from typing import Any, Final

from tailora.report.blocks import Cell, Column, Note, Section, Table, left_out
from tailora.report.curve_figures import PriorLine, prior_lines
from tailora.report.names import shorten
from tailora.report.numbers import MISSING, decimal, integer, interval, number, percent
from tailora.report.reading import FinishedRun, method_name
from tailora.report.style import method_style

OLD: Final = "an earlier version measured the run"
_TITLE: Final = ("ranking", "Shots, worst class and ranking")
_SHOTS: Final = ("many", "medium", "few")


def ranking_section(run: FinishedRun) -> Section:
    """Mean recall by number of training samples, the worst class, AUROC and AUPRC."""
    if not any(method.get("shots") for method in run.methods):
        return left_out(*_TITLE, OLD)
    caption = (
        "In percent. First recall: many-shot classes have over 100 training samples, few-shot "
        "fewer than 20. Then the ranking: does a class's own probability put its samples before "
        "all others, whatever the threshold? AUPRC depends on how common a class is in the test: "
        "read it down a column, beside its chance, and not from group to group."
    )
    return Section(*_TITLE, caption, (_recall_table(run), _ranking_table(run)))


def _recall_table(run: FinishedRun) -> Table:
    columns = [
        Column("method", numeric=False),
        *(Column(name, f"mean recall of {name}-shot classes") for name in _SHOTS),
        Column("worst class", "lowest recall of any class"),
        Column("G-mean", "geometric mean of the recalls; one class at 0 makes it 0"),
        Column("disparity", "highest less lowest recall"),
    ]
    known = any(number(m.get("relative_accuracy")) is not None for m in run.methods)
    if known:
        columns.append(Column("relative", "balanced accuracy over that of balanced training"))
    rows = tuple(
        (
            Cell(method_name(method["method"])),
            *(Cell(percent((method.get("shots") or {}).get(name))) for name in _SHOTS),
            _worst_cell(method),
            Cell(percent(method.get("g_mean"))),
            Cell(percent(method.get("accuracy_disparity"))),
            *([Cell(percent(method.get("relative_accuracy")))] if known else []),
        )
        for method in run.methods
    )
    return Table(tuple(columns), rows, "Recall by number of training samples")


def _worst_cell(method: Mapping[str, Any]) -> Cell:
    name = str(method.get("worst_class") or "")
    return Cell(percent(method.get("worst_class_recall")), shorten(name, 24), title=name)


def _ranking_table(run: FinishedRun) -> Table:
    columns = (
        Column("method", numeric=False),
        Column("AUROC", "mean over classes, each against the rest; 50 is chance"),
        Column("tail AUROC", "the same over tail classes"),
        *(
            Column(f"{scope} AUPRC", "mean average precision; in grey what chance would score")
            for scope in ("head", "middle", "tail")
        ),
    )
    rows = tuple(
        (
            Cell(method_name(method["method"])),
            *(Cell(percent(_rank(method, scope).get("auroc"))) for scope in ("all", "tail")),
            *(_auprc_cell(_rank(method, scope)) for scope in ("head", "middle", "tail")),
        )
        for method in run.methods
    )
    return Table(columns, rows, "Ranking per method")


def _auprc_cell(found: Mapping[str, Any]) -> Cell:
    score = percent(found.get("auprc"))
    return Cell(score, "" if score == MISSING else f"chance {percent(found.get('prevalence'))}")


def _rank(method: Mapping[str, Any], scope: str) -> Mapping[str, Any]:
    return (method.get("ranking") or {}).get(scope) or {}


_PRIORS: Final = ("priors", "If classes came in other shares")
_NAMED: Final = ("natural", "uniform", "reversed")
_FEW_ROWS: Final = 50
_SCALE: Final = ("forward", "uniform", "backward")


def priors_section(run: FinishedRun) -> Section:
    """Scores of every method under test priors from head-heavy to tail-heavy."""
    methods = [method for method in run.methods if method.get("priors")]
    if not methods:
        return left_out(*_PRIORS, OLD)
    caption = (
        "The same test, its samples weighted as if the most frequent training class came up to 50 "
        "times as often as the rarest (left), all alike (middle), or the other way round (right). "
        "Natural are the training's shares, reversed gives the largest to the rarest class. Only "
        "shares change here: another season or sensor is not in it."
    )
    order = [name for name in methods[0]["priors"] if name.partition("-")[0] in _SCALE]
    lines = [_line(method, order, place) for place, method in enumerate(methods)]
    picture = prior_lines([_tick(name) for name in order], lines)
    return Section(*_PRIORS, caption, (*_warning(methods[-1]), picture, _table(methods)))


def _tick(name: str) -> str:
    side, _, ratio = name.partition("-")
    return f"{ratio}:1" if side == "forward" else f"1:{ratio}" if side == "backward" else "1:1"


def _line(method: Mapping[str, Any], order: list[str], place: int) -> PriorLine:
    colour, marker = method_style(method["method"], place)
    scores = [method["priors"].get(name) or {} for name in order]
    return PriorLine(
        method_name(method["method"]),
        colour,
        marker,
        tuple(number(one.get("macro_f1")) for one in scores),
        tuple(number(one.get("accuracy")) for one in scores),
    )


def _table(methods: list[Mapping[str, Any]]) -> Table:
    columns = [Column("method", numeric=False)]
    for name in _NAMED:
        columns += [
            Column(f"{name} macro-F1"),
            Column(f"{name} accuracy", "in grey, how many equally weighted samples it rests on"),
        ]
    rows = tuple(
        (
            Cell(method_name(method["method"])),
            *(cell for name in _NAMED for cell in _cells(method["priors"].get(name) or {})),
        )
        for method in methods
    )
    return Table(tuple(columns), rows, "Scores under other test priors")


def _cells(found: Mapping[str, Any]) -> tuple[Cell, Cell]:
    rows = integer(found.get("effective_rows"))
    detail = "" if rows == MISSING else f"{rows} samples"
    return Cell(percent(found.get("macro_f1"))), Cell(percent(found.get("accuracy")), detail)


def _warning(method: Mapping[str, Any]) -> list[Note]:
    """Warn where the tail-heavy side rests on hardly any sample."""
    fewest = min(
        (rows for one in method["priors"].values() if (rows := number(one.get("effective_rows")))),
        default=float("inf"),
    )
    if fewest >= _FEW_ROWS:
        return []
    text = (
        f"The most lopsided shares rest on {integer(fewest)} equally weighted samples or fewer: "
        "read the ends of the lines as a direction, not as a number."
    )
    return [Note(text, "open")]


_COLLAPSE: Final = ("collapse", "Collapse of features, shift of the test")
_DISTANCES: Final = ("nc2_classifier", "nc2_means", "nc3_product")


def collapse_section(run: FinishedRun) -> Section:
    """Neural-collapse distances and the Fréchet distance from training to test."""
    methods = [m for m in run.methods if m.get("collapse") or m.get("shift")]
    if not methods:
        return left_out(*_COLLAPSE, OLD)
    caption = (
        "Trained to the end, classes shrink to points (spread 0) that stand evenly; a distance of "
        "0 is full collapse, towards the shape of balanced data or, in grey, towards the one of "
        "these class sizes. The last column is the Fréchet distance between training and test "
        "features in units of the training variance, less the bias of small samples, with its "
        "interval; other class shares in the test count as a shift too."
    )
    columns = (
        Column("method", numeric=False),
        Column("spread", "within classes over between classes (NC1)"),
        Column("head vectors", "Gram matrix of class vectors from its target (NC2), 0 to 2"),
        Column("class means", "Gram matrix of class means from its target (NC2), 0 to 2"),
        Column("their products", "class vectors with class means from their target (NC3)"),
        Column("shift of the test"),
    )
    rows = tuple(
        (
            Cell(method_name(method["method"])),
            Cell(decimal((method.get("collapse") or {}).get("nc1"), digits=2)),
            *(_distance_cell(method.get("collapse") or {}, key) for key in _DISTANCES),
            _shift_cell(method.get("shift") or {}),
        )
        for method in methods
    )
    table = Table(columns, rows, "Neural collapse and shift")
    lacking = [method_name(m["method"]) for m in methods if not m.get("collapse")]
    note = (
        f"Collapse is left out for {', '.join(lacking)}: a head that is no linear layer has no "
        "class vectors to compare."
    )
    return Section(*_COLLAPSE, caption, (*((Note(note),) if lacking else ()), table))


def _distance_cell(collapse: Mapping[str, Any], key: str) -> Cell:
    balanced, sized = ((collapse.get(k) or {}).get(key) for k in ("balanced", "imbalanced"))
    if number(balanced) is None:
        return Cell(MISSING)
    return Cell(decimal(balanced, digits=2), decimal(sized, digits=2))


def _shift_cell(shift: Mapping[str, Any]) -> Cell:
    ends = interval((shift.get("low"), shift.get("high")))
    if ends is None:
        return Cell(MISSING)
    detail = f"[{decimal(ends[0], digits=2)}, {decimal(ends[1], digits=2)}]"
    return Cell(decimal(shift.get("corrected"), digits=2), detail)
