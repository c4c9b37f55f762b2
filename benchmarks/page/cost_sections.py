"""The cost model beside measured seconds, and debLoRA beside pre-training."""

from typing import Any

from benchmarks.page.tables import scaled, short, table


def predictions(results: dict[str, Any]) -> str:
    """Show operations, bytes, the binding limit, predicted and measured seconds."""
    found = results["cost-model"]
    peaks = found["peaks"]
    rows = [
        (row["stage"], row["size"], scaled(row["operations"]), scaled(row["bytes"]), row["limit"],
         short(row["predicted_seconds"]), short(row["median_seconds"]),
         f"{row['measured_over_predicted']:.1f}")
        for row in found["rows"]
    ]  # fmt: skip
    head = ("stage", "size", "operations", "bytes", "limit that binds", "predicted, s",
            "measured, s", "measured / predicted")  # fmt: skip
    return (
        "## Cost model\n\n`benchmarks/cost_model.py` counts operations (of matrix products, a "
        "multiply-add as two) and bytes (each operator reads its inputs and writes its output "
        "once). On peaks measured in the same run, "
        f"{peaks['gflops']:.0f} GFLOP/s in single and {peaks['gflops_double']:.0f} in double "
        f"precision by a matrix product, {peaks['gbytes']:.0f} GB/s by a copy, the slower of the "
        "two limits predicts the least seconds a stage can take. Measured over predicted says how "
        "far a stage is from its limit: small matrices, work that runs on one core, copies.\n\n"
        + table(head, rows)
    )


def pretraining(results: dict[str, Any]) -> str:
    """Show what an image costs in each kind of training, and what whole trainings cost."""
    found = results["pretraining"]
    steps, assumed = found["steps"], found["assumed"]
    images = found["images"]
    measured = [
        (name, short(1000 * step["median_seconds"] / images), f"{step['over_first']:.2f}")
        for name, step in steps.items()
    ]
    small, large = found["costs"]["small"], found["costs"]["ViT-L/16, 224 px"]
    base, base_large = (entry[1]["operations"] for entry in (small, large))
    rows = [
        (one["way"], f"{one['parameters'] / 1e6:.2f} M", f"{one['images']:,}",
         scaled(one["operations"]), short(one["operations"] / base),
         short(other["operations"] / base_large),
         short(one["hours"]))
        for one, other in zip(small, large, strict=True)
    ]  # fmt: skip
    head = ("way", "trained parameters of the encoder", "images", "operations", "over debLoRA",
            "over debLoRA, ViT-L/16", "hours here")  # fmt: skip
    return (
        "## Cost beside self-supervised pre-training\n\nThe paper sets GPU hours, parameters and "
        "data of its method beside those of SatMAE and MoCo-v3. Its numbers are not known to us "
        "and none is printed; these are our own. Seconds of an image in a step, measured in turns "
        f"on encoders of one size ({found['encoder']}, {found['image_size']} px, batch "
        f"{found['batch_size']}; the masked autoencoder sees {found['share_seen']:.0%} of the "
        f"patches and rebuilds them with a decoder {found['decoder']['width']} wide and "
        f"{found['decoder']['depth']} deep; MoCo-v3 sees two views, twice):\n\n"
        + table(("step", "ms an image", "over LoRA"), measured)
        + "\nWhole trainings by the cost model: LoRA, debLoRA and fine-tuning as the demo does "
        f"them, features included; pre-training on an assumed {assumed['images']:,} images for "
        f"{assumed['epochs']} epochs ({assumed['why']}). Hours are operations at the rate "
        "of the measured steps. Pre-training is paid once for an encoder, debLoRA once for a data "
        "set.\n\n" + table(head, rows)
    )
