"""Small pictures and datasets, made where they are used."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from tailora.data import Dataset


class ArrayImages:
    """An image source without files."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def read(self, i):
        return self.images[i]

    def id(self, i):
        return f"image-{i}"


@pytest.fixture(scope="session")
def write_tiff():
    """Write an array (bands, height, width) as a TIFF without a place on Earth."""

    def write(path: Path, pixels, **options):
        bands, height, width = pixels.shape
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(
                path,
                "w",
                driver="GTiff",
                width=width,
                height=height,
                count=bands,
                dtype=pixels.dtype,
                **options,
            ) as file:
                file.write(pixels)
        return path

    return write


@pytest.fixture(scope="session")
def write_picture():
    """Write a grey PNG of one value; different values give different bytes."""

    def write(path: Path, value=0, *, mode="L", size=(6, 4)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, value).save(path)
        return path

    return write


@pytest.fixture(scope="session")
def memory_dataset():
    """Wrap arrays as a dataset; the two classes take turns, and train comes before test."""

    def wrap(images, labels=None, splits=None, groups=None):
        n = len(images)
        labels = np.arange(n) % 2 if labels is None else np.array(labels)
        splits = ["train"] * (n - n // 2) + ["test"] * (n // 2) if splits is None else splits
        return Dataset("memory", ArrayImages(images), labels, ("a", "b"), np.array(splits), groups)

    return wrap
