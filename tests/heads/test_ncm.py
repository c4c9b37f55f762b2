import math

import pytest
import torch

from tailora.errors import ConfigError, DataError
from tailora.heads import nearest_class_mean
from tailora.heads.ncm import METRICS, VARIANTS, NearestClassMeanHead

FEATURES = [[3.0, 0.5], [1.0, 0.0], [0.5, 2.0], [0.0, 4.0], [1.0, 3.0]]
LABELS = [0, 0, 1, 1, 1]
QUERY = [1.4, 1.1]

each_variant = pytest.mark.parametrize("variant", VARIANTS)


def mean(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def unit(row):
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row]


def by_hand(variant, metric):
    centre = [0.0, 0.0]
    if variant == "cl2n":
        centre = mean([mean(FEATURES[:2]), mean(FEATURES[2:])])

    def prepared(row):
        moved = [x - c for x, c in zip(row, centre, strict=True)]
        return moved if variant == "un" else unit(moved)

    logits = []
    for c in (0, 1):
        rows = [prepared(f) for f, y in zip(FEATURES, LABELS, strict=True) if y == c]
        x, m = prepared(QUERY), mean(rows)
        if metric == "cosine":
            x, m = unit(x), unit(m)
            logits.append(sum(a * b for a, b in zip(x, m, strict=True)))
        else:
            logits.append(-sum((a - b) ** 2 for a, b in zip(x, m, strict=True)))
    return logits


@each_variant
@pytest.mark.parametrize("metric", METRICS)
def test_logits_by_hand(variant, metric):
    head = nearest_class_mean(
        torch.tensor(FEATURES), torch.tensor(LABELS), 2, variant=variant, metric=metric
    )
    logits = head(torch.tensor([QUERY]))
    assert logits[0].tolist() == pytest.approx(by_hand(variant, metric), rel=1e-4)


@each_variant
@pytest.mark.parametrize("metric", METRICS)
def test_separated_classes_are_told_apart_whatever_their_size(variant, metric, blobs):
    features, labels = blobs
    head = nearest_class_mean(features, labels, 3, variant=variant, metric=metric)
    assert (head(features).argmax(dim=1) == labels).all()


@each_variant
def test_does_not_depend_on_a_rotation_of_the_features(variant, blobs):
    features, labels = blobs[0].double(), blobs[1]
    generator = torch.Generator().manual_seed(1)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))
    plain = nearest_class_mean(features, labels, 3, variant=variant)(features)
    turned = features @ rotation
    rotated = nearest_class_mean(turned, labels, 3, variant=variant)(turned)
    assert torch.allclose(plain, rotated, atol=1e-9)


def test_takes_numpy_arrays_and_can_be_made_again_from_its_state(blobs):
    features, labels = blobs
    head = nearest_class_mean(features.numpy(), labels.numpy(), 3, metric="cosine")
    again = NearestClassMeanHead(**head.state_dict(), metric="cosine")
    assert torch.equal(again(features), head(features))
    assert not list(head.parameters())


def test_a_class_without_rows_is_named():
    with pytest.raises(DataError, match=r"classes \['2'\] have no training sample"):
        nearest_class_mean(torch.tensor(FEATURES), torch.tensor(LABELS), 3)


def test_unknown_variant_metric_and_width_are_refused():
    features, labels = torch.tensor(FEATURES), torch.tensor(LABELS)
    with pytest.raises(ConfigError, match="unknown nearest-class-mean variant 'cln'; did you mean"):
        nearest_class_mean(features, labels, 2, variant="cln")
    with pytest.raises(ConfigError, match="unknown nearest-class-mean metric 'cos'; did you mean"):
        nearest_class_mean(features, labels, 2, metric="cos")
    with pytest.raises(ConfigError, match="unknown nearest-class-mean variant 'raw'"):
        NearestClassMeanHead(features, features[0], variant="raw")
    with pytest.raises(ConfigError, match="differ in width"):
        NearestClassMeanHead(features, torch.zeros(3))
