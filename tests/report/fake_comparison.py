"""The content of a comparison.json that looks like a real one, without training anything."""

import numpy as np

ADAPTERS = (
    "zero-shot", "lora", "deblora", "clora", "clora+deblora", "lora+reslt", "fine-tune",
    "clora-oracle",
)  # fmt: skip
PROBES = ("logit-adjusted", "cross-entropy", "class-balanced")
SCOPES = ("all", "head", "middle", "tail")
MACHINE = {
    "cpu": "a CPU", "cores": 2, "memory_gb": 7.6, "platform": "Linux", "device": "cpu",
}  # fmt: skip
LEVELS = {"all": 0.55, "head": 0.75, "middle": 0.55, "tail": 0.38}


def fake_comparison(*, n_seeds=3, n_probes=3, n_adapters=8, names=None, gain=0.03, **changes):
    """`gain` is deblora's tail difference; its interval is 0.02 to either side."""
    rng = np.random.default_rng(0)
    names = list(names or [f"class {c}" for c in range(9)])
    third = max(1, len(names) // 3)
    adapters = [*ADAPTERS[:n_adapters], *(f"adapter {i}" for i in range(len(ADAPTERS), n_adapters))]
    rows = [
        _row(rng, adapter, probe, names, n_seeds, gain)
        for probe in PROBES[:n_probes]
        for adapter in adapters
    ]
    _rank(rows, n_seeds)
    return {
        "schema": 1,
        "kind": "comparison",
        "complete": True,
        "tailora": "0.1.0",
        "fingerprints": ["f1" * 8],
        "started": "2026-03-01T10:22:41+00:00",
        "finished": "2026-03-01T12:02:11+00:00",
        "versions": {"torch": "2.13.0", "numpy": "2.3.0"},
        "git": {"commit": "0123abc", "dirty": False},
        "machine": MACHINE,
        "machines": [MACHINE],
        "dataset": {
            "name": "bluemarble",
            "notes": ["made of <tiles>"],
            "n_train": [1500],
            "n_val": [300],
            "n_test": [600],
        },
        "backbone": {"name": "dinov2-small", "source": "packaged", "license": "Apache-2.0"},
        "seeds": list(range(n_seeds)),
        "resplit": False,
        "against": "lora",
        "ordinary": None,
        "confidence": 0.95,
        "replicates": 1000,
        "unit": "group",
        "groups": {
            "head": names[:third],
            "middle": names[third:-third],
            "tail": names[-third:],
        },
        "classes": [{"name": n, "n_train": 900.0 / (c + 1)} for c, n in enumerate(names)],
        "probes": list(PROBES[:n_probes]),
        "adapters": adapters,
        "rows": rows,
        "tuning": None,
        "recipe": 'seed = 0\n\n[adapter]\nname = "deblora"\n',
        **changes,
    }


def _row(rng, adapter, probe, names, n_seeds, gain):
    level = 0.02 * (ADAPTERS.index(adapter) if adapter in ADAPTERS else 3)
    level -= 0.03 * PROBES.index(probe)
    scores = {scope: _score(rng, LEVELS[scope] + level, n_seeds) for scope in SCOPES}
    per_class = [
        {
            "name": name,
            "mean": float(np.clip(0.8 - 0.5 * c / len(names) + rng.normal(0, 0.04), 0, 1)),
            "deviation": 0.02 if n_seeds > 1 else None,
        }
        for c, name in enumerate(names)
    ]
    mean = {"zero-shot": -0.05, "deblora": gain, "clora-oracle": 0.08}.get(adapter, 0.004)
    difference = {s: {"mean": mean, "low": mean - 0.02, "high": mean + 0.02} for s in SCOPES}
    difference["all"] = {"mean": mean / 2, "low": mean / 2 - 0.02, "high": mean / 2 + 0.02}
    return {
        "name": f"{adapter} / {probe}",
        "adapter": adapter,
        "method": None,
        "probe": probe,
        "changes": {"adapter.rank": 16} if adapter == "clora" else {},
        "tuned": {},
        "leaks": adapter == "clora-oracle",
        "against": None if adapter == "lora" else "lora",
        "scores": scores,
        "difference": None if adapter == "lora" else difference,
        "over_ordinary": None,
        "ranks": {},
        "per_class": per_class,
        "geometry": {"inter_head_tail": 0.41, "inter_tail_tail": 0.3, "intra_tail": 0.21},
        "ece": {"all": 0.05, "tail": 0.12},
        "accuracy": 0.6 + level,
        "balanced_accuracy": 0.55 + level,
        "measures": _measures(level),
        "task": None,
        "purity": 0.72 if "deblora" in adapter else None,
        "seconds": {"own": 60.0, "total": 130.0},
        "validation": {"all": 0.6, "head": 0.8, "middle": 0.6, "tail": 0.4},
        "peak_memory_mb": 1400.0,
        "trained_parameters": 0 if adapter == "zero-shot" else 294912,
    }


def _measures(level):
    one = {"mean": 0.5 + level, "deviation": 0.01}
    scopes = dict.fromkeys(SCOPES, one)
    return {
        "worst_class_recall": {"mean": 0.123, "deviation": 0.02},
        "g_mean": {"mean": 0.345, "deviation": None},
        **dict.fromkeys(("accuracy_disparity", "relative_accuracy"), one),
        "shots": {"many": one, "medium": one, "few": {"mean": None, "deviation": None}},
        **dict.fromkeys(("auroc", "auprc"), scopes),
        "prevalence": {s: {"mean": 0.083, "deviation": 0.0} for s in SCOPES},
        "priors": {"uniform": {"accuracy": one, "macro_f1": one}},
        **dict.fromkeys(("nll", "coverage"), scopes),
        "set_size": {s: {"mean": 3.44, "deviation": 0.2} for s in SCOPES},
        "retrieval": {
            s: {"mean": 0.41, "deviation": 0.02, "per_seed": [0.39, 0.43]} for s in SCOPES
        },
    }


def _score(rng, level, n_seeds):
    each = level + rng.normal(0, 0.01, n_seeds)
    deviation = float(each.std(ddof=1)) if n_seeds > 1 else None
    return {"mean": float(each.mean()), "deviation": deviation, "per_seed": each.tolist()}


def _rank(rows, n_seeds):
    for scope in SCOPES:
        scores = np.array([row["scores"][scope]["per_seed"] for row in rows])
        ranks = (-scores).argsort(axis=0).argsort(axis=0) + 1
        for row, found in zip(rows, ranks, strict=True):
            row["ranks"][scope] = float(found.mean())
