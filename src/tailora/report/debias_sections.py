"""Effect of de-biasing on the features: map, clusters and distances."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora.numbers import counted, decimal, integer, percent
from tailora.registry import OWN_HEAD, method_base, row_title
from tailora.report.blocks import Block, Cell, Column, Note, Section, Table, class_cell, left_out
from tailora.report.map_figure import NEEDED, map_picture
from tailora.report.matrix_figures import composition_picture
from tailora.report.sentences import describe_geometry, describe_purity
from tailora.runs.result import RunResult

_MAP: Final = ("map", "Map of features, before and after")
_CLUSTERS: Final = ("clusters", "Composition of the clusters")
_GEOMETRY: Final = ("geometry", "Distances between classes")
DISTANCES: Final = ("inter_head_tail", "inter_tail_tail", "intra_tail")


def map_section(run: RunResult) -> Section:
    """Samples and class means in two dimensions, before and after."""
    if not run.has_evidence(*NEEDED):
        return left_out(*_MAP, "no map was stored" if run.evidence else "report.npz is missing")
    caption = (
        "Each dot is a sample, projected onto the two directions of largest variation, so what "
        "overlaps here may be separate in the full space. Rare classes have strong colours. "
        "Arrows show where de-biasing moves a rare class; rings show the target."
    )
    picture = map_picture(run)
    if (run.evidence["keep"] < 1).any():
        return Section(*_MAP, caption, (picture,))
    text = (
        "No class was rare enough to be moved: debLoRA had no effect on the features of this run."
    )
    return Section(*_MAP, caption, (Note(text, "open"), picture))


def has_clusters(run: RunResult) -> bool:
    """Whether features were clustered in this run: debLoRA does, other methods do not."""
    return run.metrics.clusters is not None or run.has_evidence("composition")


def composition_section(run: RunResult) -> Section:
    """Distribution of rare classes over the clusters, and their purity; see `has_clusters`."""
    caption = (
        "Each row is a rare class, each column a cluster of features. A class spread over "
        "several cells shares attributes with other classes; a class in one cell has a cluster "
        "of its own or is hidden in a frequent class's cluster."
    )
    blocks: list[Block] = [*_purity_notes(run)]
    shown = _moved_or_tail(run)
    if run.has_evidence("composition") and shown:
        shares = run.evidence["composition"][shown]
        blocks.append(composition_picture(shares, [run.class_names[c] for c in shown]))
    if run.has_evidence("composition", "keep") and shown:
        blocks.append(_pull_table(run, shown))
    if not run.has_evidence("composition"):
        blocks.append(Note("The heat map is not shown: report.npz is missing."))
    return Section(*_CLUSTERS, caption, tuple(blocks))


def geometry_section(run: RunResult) -> Section:
    """Cosine distances between and within groups, per method."""
    rows = tuple(
        (Cell(row_title(*m.row)), *(Cell(decimal(m.geometry[key])) for key in DISTANCES))
        for m in run.metrics.methods
    )
    columns = (
        Column("method", numeric=False),
        Column("head to tail ↑", "between a head class and a tail class; higher is better"),
        Column("tail to tail ↑", "between two tail classes; higher is better"),
        Column("within tail ↓", "between samples of one tail class; lower is better"),
    )
    caption = (
        "Mean cosine distance of features on the test split. Rare classes should be far from the "
        "others (↑ higher is better) and compact (↓ lower is better)."
    )
    table = Table(columns, rows, "Cosine distances per method")
    return Section(*_GEOMETRY, caption, (*_geometry_notes(run), table))


def _geometry_notes(run: RunResult) -> list[Note]:
    name = method_base(run.final.method)
    rows = [row for row in run.metrics.methods if row.head != OWN_HEAD]  # of the same features
    base = next((row for row in rows if row.method == name), None)
    if base is None:
        return []
    note = describe_geometry(base, run.final)
    return [note] if note else []


def _purity_notes(run: RunResult) -> list[Note]:
    clusters = run.metrics.clusters
    if clusters is None:
        return []
    counts = [one.n_train for one in run.classes]
    share = max(counts) / sum(counts) if sum(counts) else None
    text = counted(clusters.count, "cluster")
    if clusters.sizes:
        text += f" of {integer(min(clusters.sizes))} to {counted(max(clusters.sizes), 'sample')}"
    if math.isfinite(clusters.balance):
        text += f" (balance factor {clusters.balance:g})"
    note = describe_purity(clusters.purity, largest_share=share)
    return [Note(f"{text}. {note.text}", note.tone)]


def _moved_or_tail(run: RunResult) -> list[int]:
    tail = run.in_group("tail")
    if "keep" not in run.evidence:
        return tail
    return [c for c in run.order if c in tail or run.evidence["keep"][c] < 1]


def _pull_table(run: RunResult, shown: list[int]) -> Table:
    columns = (
        Column("class", numeric=False),
        Column("train", "training samples"),
        Column("kept, %", "weight of a sample's own feature; 100 means not moved"),
        Column("in its main cluster, %"),
        Column(
            "other classes there", "classes with the largest shares in that cluster", numeric=False
        ),
    )
    rows = tuple(_pull_row(run, c) for c in shown)
    return Table(columns, rows, "How far rare classes were moved, and towards which classes")


def _pull_row(run: RunResult, c: int) -> tuple[Cell, ...]:
    shares = run.evidence["composition"][c]
    main = int(np.argmax(shares))
    return (
        class_cell(run.class_names[c]),
        Cell(integer(run.classes[c].n_train)),
        Cell(percent(float(run.evidence["keep"][c]))),
        Cell(percent(float(shares[main]))),
        Cell(", ".join(_neighbours(run, c, main)[:3]) or "none"),
    )


def _neighbours(run: RunResult, c: int, cluster: int) -> list[str]:
    """Return other classes in a cluster, most samples first; shares times class counts."""
    counts = np.array([one.n_train for one in run.classes])
    samples: NDArray[Any] = run.evidence["composition"][:, cluster] * counts
    order = np.argsort(-samples, kind="stable")
    return [run.class_names[other] for other in order if other != c and samples[other] >= 0.5]
