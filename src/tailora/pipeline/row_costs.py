"""What a row of a comparison cost: seconds, peak memory, trained parameters."""

from collections.abc import Sequence
from typing import Any

from tailora.pipeline.clora import category_costs
from tailora.pipeline.comparison_plan import PER_CATEGORY
from tailora.pipeline.job import Job
from tailora.pipeline.leaking_prompt import PROMPT_ORACLE
from tailora.pipeline.stages import costs


def row_cost(job: Job, method: str) -> dict[str, Any]:
    """Seconds, peak memory and trained parameters of a row, with the stages it stands on."""
    if method in PER_CATEGORY:
        spent = category_costs(job, method)
        parameters = _sum_of_adapters(spent, method)
    elif method == PROMPT_ORACLE:
        spent, parameters = job.folder.costs(method).entries(), 0
    else:
        spent = costs(job, method)
        parameters = max((entry["trained_parameters"] for entry in spent), default=0)
    return {
        "trained_parameters": parameters or _head_size(job),
        "seconds": sum(entry["seconds"] for entry in spent),
        "peak_memory_mb": max((entry["peak_memory_mb"] for entry in spent), default=0.0),
    }


def own_seconds(job: Job, method: str) -> float:
    """Seconds spent on a method itself, without the stages it stands on."""
    if method not in PER_CATEGORY:
        return sum(entry["seconds"] for entry in job.folder.costs(method).entries())
    return sum(entry["seconds"] for entry in _of_adapters(category_costs(job, method), method))


def _sum_of_adapters(spent: Sequence[dict[str, Any]], method: str) -> int:
    return sum(entry["trained_parameters"] for entry in _of_adapters(spent, method))


def _of_adapters(spent: Sequence[dict[str, Any]], method: str) -> list[dict[str, Any]]:
    """Entries of the categories' last adapters, in whose parts of the folder they lie."""
    last = method.removesuffix("-oracle") + "/"
    return [entry for entry in spent if entry["method"].startswith(last)]


def _head_size(job: Job) -> int:
    return len(job.counts.names) * (job.encoder.features + 1)
