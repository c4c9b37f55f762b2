"""What a training step of a ViT-L needs."""

from typing import Any

from benchmarks.page.tables import short, table


def memory(results: dict[str, Any]) -> str:
    """Show memory that stands there anyway, that of an image, and how many images fit."""
    found = results["memory"]
    shape, few, more = found["shape"], *found["rows"][0]["images"]
    rows = [
        (
            row["setting"],
            short(row["fixed_mb"]),
            short(row["each_mb"]),
            f"{row['fit']:,}",
            " and ".join(short(one) for one in row["seconds"]),
        )
        for row in found["rows"]
    ]
    head = ("", "without images, MB", "an image, MB", f"images in {found['limit_gb']:g} GB",
            f"seconds of {few} and {more} images")  # fmt: skip
    return (
        "## Memory of a large encoder\n\nOne training step of an encoder of DINOv2-L's shape "
        f"({shape['num_hidden_layers']} layers, {shape['hidden_size']} wide, "
        f"{shape['image_size']} px, random weights) on the CPU: peak memory of the process with "
        f"{few} and with {more} images at once, imports included, and what follows for "
        "`compute.micro_batch`. On a GPU the driver's own memory comes on top; the batch may be "
        "larger than what goes through at once.\n\n" + table(head, rows)
    )
