"""Write run folders that look like real ones, without training anything."""

import json
from pathlib import Path

import numpy as np

NASTY_NAMES = [
    "<b>bold</b>", 'R&D "site"', "it's, here", "$x_1$ & {{ 7*7 }}", "Gewässer", "зона", "居住区",
]  # fmt: skip
PLAIN_NAMES = [
    "residential", "forest", "annual crop", "pasture", "industrial", "river", "highway", "lake",
    "permanent crop", "herbaceous vegetation", "harbour", "storage tank", "ground track field",
    "helicopter pad", "overpass", "golf course",
]  # fmt: skip
GROUPS = ("head", "middle", "tail")


def class_names(n_classes, *, nasty=False):
    names = NASTY_NAMES[:n_classes] if nasty else []
    names = names + PLAIN_NAMES[: n_classes - len(names)]
    long = "class with a rather long descriptive name number"
    return names + [f"{long} {c}" for c in range(len(names), n_classes)]


def write_fake_run(
    folder: Path,
    *,
    n_classes=12,
    seed=0,
    tail=(0.021, 0.003, 0.04),
    nasty=False,
    arrays=True,
    n_clusters=8,
    measured=True,
) -> Path:
    """`tail` is the paired difference debLoRA - LoRA on the tail with its interval, or None.

    Without `measured` the run is one of schema 1.
    """
    rng = np.random.default_rng(seed)
    names = class_names(n_classes, nasty=nasty)
    counts = np.maximum(2000 * 0.5 ** (10 * np.arange(n_classes) / n_classes), 4).astype(int)
    third = n_classes // 2 if n_classes == 2 else round(n_classes / 3)
    edges = {"head": (0, third), "middle": (third, n_classes - third)}
    groups = {g: names[slice(*edges.get(g, (n_classes - third, n_classes)))] for g in GROUPS}
    folder.mkdir(parents=True, exist_ok=True)
    n_test = np.maximum(counts // 10, 1)
    n_test[-1] = 0 if n_classes > 4 else n_test[-1]
    metrics = _metrics(rng, names, counts, n_test, groups, tail)
    if measured:
        metrics |= {
            "schema": 2, "label_value": _label_value(groups, counts, names), "left_out": None,
            "learnt_from": None,
        }  # fmt: skip
        for method in metrics["methods"]:
            method.update(_measures(method, names, n_test))
    write = {
        "metrics.json": metrics,
        "run.json": _run(counts, n_test, seed),
        "classes.json": {"classes": _classes(names, counts, n_test, groups)},
    }
    for name, value in write.items():
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        (folder / name).write_text(text, "utf-8")
    (folder / "recipe.toml").write_text(_recipe(seed), "utf-8")
    if arrays:
        np.savez(folder / "report.npz", **_arrays(rng, names, counts, groups, n_clusters))
    return folder


def _metrics(rng, names, counts, n_test, groups, tail):
    empty = [group for group in GROUPS if not groups[group]]
    pair = {"method": "deblora", "against": "lora", "head": None, "against_head": None}
    differences = {"all": 0.004, "head": -0.003, "middle": 0.008, "tail": tail and tail[0]}
    ends = {g: [v - 0.011, v + 0.012] for g, v in differences.items() if v is not None}
    ends["tail"] = list(tail[1:]) if tail else None
    for group in empty:
        differences[group] = ends[group] = None
    methods = [
        _method(rng, name, names, counts, n_test, empty, level)
        for name, level in (("zero-shot", 0.45), ("lora", 0.8), ("deblora", 0.83))
    ]
    return {
        "schema": 1,
        "groups": groups,
        "classes": names,
        "bootstrap": {"replicates": 1000, "confidence": 0.95, "unit": "sample"},
        "methods": methods,
        "paired": [{**pair, "macro_f1_difference": differences, "interval": ends}],
        "clusters": {"count": 8, "balance": 10, "purity": 0.55, "sizes": [40, 90, 300, 1200]},
    }


def _method(rng, method, names, counts, n_test, empty, level):
    n_classes = len(names)
    f1 = np.clip(
        level - 0.35 * np.arange(n_classes) / n_classes + rng.normal(0, 0.04, n_classes), 0, 1
    )
    half = 0.5 / np.sqrt(n_test + 1)
    per_class = [
        {
            "name": names[c],
            "n_train": int(counts[c]),
            "n_test": int(n_test[c]),
            "precision": float(min(1, f1[c] + 0.05)) if n_test[c] else None,
            "recall": float(max(0, f1[c] - 0.05)) if n_test[c] else None,
            "f1": float(f1[c]) if n_test[c] else None,
            "f1_interval": [max(0, f1[c] - half[c]), min(1, f1[c] + half[c])]
            if n_test[c]
            else None,
        }
        for c in range(n_classes)
    ]
    scopes = {"all": level - 0.18, "head": level, "middle": level - 0.15, "tail": level - 0.3}
    confusion = [
        rng.multinomial(n_test[c], _row(f1[c], c, n_classes)).tolist() for c in range(n_classes)
    ]
    return {
        "method": method,
        "macro_f1": {g: None if g in empty else v for g, v in scopes.items()},
        "macro_f1_interval": {
            g: None if g in empty else [v - 0.03, v + 0.03] for g, v in scopes.items()
        },
        "accuracy": level + 0.05,
        "balanced_accuracy": level - 0.15,
        "ece": 0.05,
        "ece_by_group": {"all": 0.05, "head": 0.03, "middle": None, "tail": 0.19},
        "per_class": per_class,
        "confusion": confusion,
        "geometry": {
            "inter_head_tail": 0.4 + level / 10,
            "inter_tail_tail": 0.3,
            "intra_tail": 0.2 + level / 20,
        },
        "trained_parameters": 0 if method == "zero-shot" else 294912,
        "seconds": 74.2,
        "peak_memory_mb": 1830.5,
    }


def _measures(method, names, n_test):
    level = method["accuracy"]
    ratios = (50, 25, 10, 5, 2)
    priors = [f"forward-{r}" for r in ratios] + ["uniform"]
    priors += [f"backward-{r}" for r in ratios[::-1]] + ["natural", "reversed"]
    scopes = ("all", "head", "middle", "tail")
    honest = {"ece": method["ece_by_group"], "nll": dict.fromkeys(scopes, 2 - level)}
    distances = dict.fromkeys(("nc2_classifier", "nc2_means", "nc3_product"), 0.5)
    return {
        "shots": {"all": level - 0.1, "many": level, "medium": level - 0.2, "few": None},
        "worst_class": names[-2],
        "worst_class_recall": 0.123,
        "g_mean": 0.345,
        "accuracy_disparity": 0.6,
        "relative_accuracy": None,
        "ranking": {
            scope: {"auroc": 0.9, "auprc": 0.4 + level / 10, "prevalence": 0.083}
            for scope in scopes
        },
        "priors": {
            name: {"accuracy": level - 0.02 * i, "macro_f1": level - 0.1, "effective_rows": 90 - i}
            for i, name in enumerate(priors)
        },
        "scaling": {"none": honest, "temperature": honest},
        "coverage": {
            "level": 0.9,
            "by_group": dict.fromkeys(scopes, 0.88),
            "size_by_group": dict.fromkeys(scopes, 2.5),
            "by_class": [0.91 if n else None for n in n_test],
            "size_by_class": [1.7 if n else None for n in n_test],
            "uncalibrated": [names[-1]],
            "empty": 0.01,
        },
        "collapse": {"nc1": 3.21, "balanced": distances, "imbalanced": distances},
        "shift": {"distance": 0.3, "bias": 0.1, "corrected": 0.2, "low": 0.1, "high": 0.3,
                  "axes": 16},
    }  # fmt: skip


def _label_value(groups, counts, names):
    entries = []
    for name in groups["tail"]:
        labels = int(counts[names.index(name)])
        entry = {"index": names.index(name), "name": name, "labels": labels}
        if name == groups["tail"][-1]:
            entry["left_out"] = "4 training samples, fewer than 6: too few to thin"
        else:
            values = [
                {"factor": f, "score": 0.6, "low": 0.5, "high": 0.7, "gain": 0.1,
                 "gain_low": 0.06, "gain_high": 0.15}
                for f in (2.0, 5.0)
            ]  # fmt: skip
            sizes = [max(1, labels // 4), max(2, labels // 2), labels]
            entry |= {"sizes": sizes, "scores": [0.2, 0.4, 0.5], "values": values}
        entries.append(entry)
    return {"method": "deblora", "shares": [0.25, 0.5, 1.0], "repeats": 3, "classes": entries}


def _row(score, c, n_classes):
    row = np.full(n_classes, (1 - score) / (2 * n_classes))
    row[(c + 3) % n_classes] += (1 - score) / 2
    row[c] += 1 - row.sum()
    return row


def _run(counts, n_test, seed):
    quick = {"seconds": 12.1, "peak_memory_mb": 900.0, "trained_parameters": 0}
    stage = {"seconds": 61.5, "peak_memory_mb": 1830.0, "trained_parameters": 294912}
    return {
        "schema": 1,
        "complete": True,
        "tailora": "0.1.0",
        "method": "deblora",
        "seed": seed,
        "started": "2026-03-01T10:22:41+00:00",
        "versions": {"torch": "2.13.0", "peft": "0.17.1", "numpy": "2.3.0"},
        "git": {"commit": "0123abc", "dirty": True},
        "machine": {
            "cpu": "a CPU",
            "cores": 2,
            "memory_gb": 7.6,
            "platform": "Linux",
            "device": "cpu",
        },
        "dataset": {
            "name": "Coast chips <2026>",
            "fingerprint": "f1" * 8,
            "n_train": int(counts.sum()),
            "n_val": 120,
            "n_test": int(n_test.sum()),
            "bands": 3,
            "image_size": 64,
            "notes": ["images of 60 to 64 pixels were padded"],
            "duplicates": [
                {"ids": ["a/1.png", "b/2.png"], "splits": ["train", "test"]},
                {"ids": ["a/3.png", "a/4.png"], "splits": ["train", "train"]},
            ],
            "broken": ["a/broken <1>.png"],
        },
        "backbone": {"name": "dinov2-small", "source": "packaged", "sha256": "ab" * 32},
        "input": {
            "image_size": 64,
            "resize": "crop",
            "bands": [1, 2, 3],
            "dtype": "uint8",
            "scale": 255.0,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
        },
        "stages": [
            {"name": "zero-shot: features", "method": "zero-shot", **quick},
            {"name": "lora: train", "method": "lora", **stage},
            {"name": "deblora: clusters", "method": "deblora", **quick},
            {"name": "deblora: train", "method": "deblora", **stage},
        ],
        "adapted": [
            {"module": "attention.query", "count": 12, "shape": "384x384", "parameters": 73728},
            {"module": "attention.value", "count": 12, "shape": "384x384", "parameters": 73728},
        ],
    }


def _classes(names, counts, n_test, groups):
    verdicts = []
    for c, name in enumerate(names):
        verdict, reason = "trusted", ""
        if n_test[c] < 20:
            verdict, reason = "weak", "interval wider than 20 points"
        if n_test[c] < 1:
            verdict, reason = "untested", "no test samples"
        group = next(g for g in GROUPS if name in groups[g])
        verdicts.append(
            {
                "name": name,
                "index": c,
                "n_train": int(counts[c]),
                "n_val": 3,
                "n_test": int(n_test[c]),
                "group": group,
                "verdict": verdict,
                "reason": reason,
            }
        )
    return verdicts


def _recipe(seed):
    return (
        f'method = "deblora"\nseed = {seed}\n\n[data]\nimage_size = 64\n\n[backbone]\n'
        'name = "dinov2-small"\npooling = "both"\n\n[adapter]\nrank = 8\n\n[deblora]\n'
        "clusters = 8\n"
        "balance = 10.0\n\n[train]\nepochs = 10\nlr = 0.001\n"
    )


def _arrays(rng, names, counts, groups, n_clusters):
    n_classes = len(names)
    shown = np.minimum(counts, 150)
    labels = np.repeat(np.arange(n_classes), shown)
    angles = 2 * np.pi * np.arange(n_classes) * 0.618
    means = np.stack([5 * np.cos(angles), 3 * np.sin(angles)], axis=1)
    before = means[labels] + rng.normal(0, 1.2, (len(labels), 2))
    centers = means[np.linspace(0, n_classes - 1, n_clusters).astype(int)] + rng.normal(
        0, 0.6, (n_clusters, 2)
    )
    nearest = ((before[:, None] - centers) ** 2).sum(-1).argmin(1)
    composition = np.zeros((n_classes, n_clusters))
    np.add.at(composition, (labels, nearest), 1)
    composition /= composition.sum(1, keepdims=True)
    tail = np.array([name in groups["tail"] for name in names])
    targets = np.where(tail[:, None], composition @ centers, np.nan)
    keep = np.where(tail, np.minimum(1, 10 * counts / counts.max()), 1.0)
    pulled = keep[:, None] * means + (1 - keep[:, None]) * np.nan_to_num(targets)
    after = pulled[labels] + rng.normal(0, 0.9, (len(labels), 2))
    n_thumbs = 9
    rare = np.flatnonzero(tail)
    return {
        "map_before": before.astype(np.float32),
        "map_after": after.astype(np.float32),
        "map_labels": labels,
        "map_clusters": nearest,
        "means_before": means,
        "means_after": pulled + rng.normal(0, 0.2, pulled.shape),
        "targets": targets,
        "center_points": centers,
        "keep": keep,
        "composition": composition,
        "thumbs": _thumbs(rng, n_thumbs),
        "thumb_true": rng.choice(rare, n_thumbs),
        "thumb_pred": np.zeros(n_thumbs, dtype=int),
        "thumb_prob": rng.uniform(0.4, 0.99, n_thumbs),
        "thumb_id": np.array([f"tail/{i}.png" for i in range(n_thumbs)]),
    }


def _thumbs(rng, n_thumbs):
    rows, columns = np.mgrid[0:64, 0:64]
    phases = rng.uniform(0, 6, (n_thumbs, 3))
    waves = np.sin(
        rows[None, :, :, None] / 9 + columns[None, :, :, None] / 13 + phases[:, None, None]
    )
    return (127 + 100 * waves + rng.normal(0, 8, waves.shape)).clip(0, 255).astype(np.uint8)
