"""Whitening, compared with the inverse root of the covariance by SciPy."""

import numpy as np
import pytest
from scipy.linalg import inv, sqrtm

from tailora.features.whitening import fit_whitening
from tailora.metrics.retrieval import average_precision


@pytest.fixture(scope="module")
def bank():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 8)) @ rng.normal(size=(8, 8)) * 3 + 5


def lengths(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("axes", [3, 8])
def test_axes_beyond_the_strongest_count_as_equally_strong(bank, axes):
    covariance = np.cov(bank.T, bias=True)
    strength, vectors = np.linalg.eigh(covariance)
    if axes < 8:
        strength[: 8 - axes] = strength[: 8 - axes].mean()
    ridge = 0.5 * np.trace(covariance) / 8 * np.eye(8)
    root = inv(sqrtm(vectors @ np.diag(strength) @ vectors.T + ridge))
    found = fit_whitening(bank, ridge=0.5, axes=axes)
    np.testing.assert_allclose(found.of(bank), lengths((bank - bank.mean(0)) @ root), atol=1e-10)
    alone = lengths((bank - bank.mean(0)) @ root @ vectors[:, -axes:])  # but for their signs
    along = found.along(bank)
    np.testing.assert_allclose(along @ along.T, alone @ alone.T, atol=1e-10)


def test_a_large_ridge_leaves_plain_cosines(bank):
    found = fit_whitening(bank, ridge=1e9).of(bank)
    np.testing.assert_allclose(found, lengths(bank - bank.mean(0)), atol=1e-6)


def test_what_all_images_differ_in_no_longer_hides_a_class():
    """A direction without a class holds most of the variance, as light and season do."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 20 == 0
    bank = rng.normal(size=(400, 12))
    bank[:, 0] *= 30
    bank[labels, 1:4] += 4
    found, plain = fit_whitening(bank, ridge=0.01).of(bank), lengths(bank - bank.mean(0))
    first, second = (average_precision(x[labels] @ x.T, labels).mean() for x in (found, plain))
    assert first > second + 0.2


def test_rows_between_those_that_are_read_and_rows_without_features_do_not_count(bank):
    holes = np.repeat(bank, 2, axis=0)
    holes[1::2] = np.nan
    every, half = (fit_whitening(one).of(bank) for one in (bank, holes))
    np.testing.assert_allclose(every, half, atol=1e-12)
    some = fit_whitening(bank, most=100).of(bank)
    np.testing.assert_allclose(some, fit_whitening(bank[::3]).of(bank), atol=1e-12)


@pytest.mark.parametrize("rows", [np.ones((5, 3)), np.full((4, 3), np.nan), np.ones((1, 3))])
def test_features_that_do_not_vary_have_no_direction(rows):
    found = fit_whitening(rows).of(np.ones((2, 3)))
    assert np.isfinite(found).all()
