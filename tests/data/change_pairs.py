"""Little pairs of images with masks of land cover on disk."""

import numpy as np
from PIL import Image

SIDE = 6


def draw(i):
    """Land cover by value before and after: a row of mines, and in pair 0 a pixel of water."""
    before, after = np.full((2, SIDE, SIDE), 1, np.uint8)
    after[i % SIDE] = 2
    if i % 2:
        before[:, 0], after[:, 0] = after[:, 0].copy(), before[:, 0].copy()
    after[5, 5] = 9  # ignored
    return before, after


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write(root, layout=("before", "after", "masks_before", "masks_after"), *, pairs=6, masks=None):
    rng = np.random.default_rng(0)
    for i in range(pairs):
        values = draw(i) if masks is None else masks(i)
        for name in layout[:2]:
            save(root / name / f"{i}.png", rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))
        for name, mask in zip(layout[2:], values, strict=True):
            save(root / name / f"{i}.png", mask)
    (root / "classes.csv").write_text("1,crop\n2,mine\n3,water\n9,ignore\n", "utf-8")
    return root
