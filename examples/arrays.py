"""The parts without images: cluster features evenly, move rare classes, fit any classifier.

python examples/arrays.py
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

import tailora


def draw(counts, rng):
    """Features of classes that share attributes: one direction a class, one an attribute."""
    labels = np.repeat(range(len(counts)), counts)
    attribute = rng.integers(0, 3, len(labels))
    noise = rng.normal(0, 1, (len(labels), 16))
    return noise + 3 * np.eye(16)[labels] + 3 * np.eye(16)[8 + attribute], labels


rng = np.random.default_rng(0)
features, labels = draw([600, 200, 60, 12, 6], rng)
test, truth = draw([200] * 5, rng)

clusters = tailora.size_constrained_kmeans(features, 8, balance=2.0)
print("sizes:", clusters.sizes, "none below", clusters.minimum_size)

found = tailora.calibrate(features, labels, clusters=8, pull=0.5, classes=[3, 4])
moved = np.linalg.norm(found.features - features, axis=1)
print("mean move of each class:", [round(float(moved[labels == c].mean()), 2) for c in range(5)])
print(f"purity {found.purity:.2f}: how far a cluster is one class; shared attributes need less")

for name, used in [("as they were", features), ("moved", found.features)]:
    classifier = LogisticRegression(max_iter=1000).fit(used, labels)
    scores = f1_score(truth, classifier.predict(test), average=None)
    print(f"F1 of each class, features {name}:", scores.round(2))
