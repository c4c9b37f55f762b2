"""Features of several layers side by side, through a whole run."""

import numpy as np
import torch

import tailora as package
from tests.end_to_end.chips import QUICK, succeed


def test_a_run_of_several_layers_is_read_back_as_it_was(data, encoder, tmp_path, refuse):
    run = tmp_path / "run"
    loud = [word for word in QUICK if word != "--quiet"]
    words = ("fit", data, "--backbone", encoder, *loud, "--method", "lora")
    told = succeed(*words, "--out", run, "--set", "backbone.layers=[0,-1]",
                   "--set", "probe.loss_options={tau=[0.5,1.0]}")  # fmt: skip
    found = package.load_run(run)
    own, chosen = found.metrics.methods
    assert own.head_options is None
    tau = chosen.head_options["tau"]
    assert tau in (0.5, 1.0)
    assert f"chosen on validation for logit-adjusted: tau = {tau}" in told.out
    assert found.model.head.weight.shape[1] == 2 * 2 * 16  # class and patches of two layers
    drawn = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 14, 14), dtype=torch.uint8, generator=drawn)
    with torch.inference_mode():
        expected = found.model.head(found.model.encoder(images)).softmax(dim=1)
    shares = found.predict_probabilities(images, raw=True)
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    refuse(*words, "--quiet", "--set", "backbone.layers=[5]",
           says=["layer 5 of Dinov2Model cannot be had"])  # fmt: skip
