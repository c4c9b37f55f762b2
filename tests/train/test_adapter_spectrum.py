"""The spectrum of what an adapter learnt, against that of the whole product."""

import math

import pytest
import torch
from torch import nn

from tailora.adapters import AdapterSpec, adapt
from tailora.heads.classifier_retraining import fresh_linear
from tailora.train.adapter_spectrum import adapter_spectrum

RANK = 3


def trained(tuner="lora"):
    backbone = nn.Sequential(fresh_linear(9, 7), nn.Tanh(), fresh_linear(7, 5, seed=1))
    adapted = adapt(backbone, AdapterSpec(tuner, RANK, ["0", "2"]), seed=0, total_steps=9)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return adapted


def energies(product):
    values = torch.linalg.svdvals(product.double())[:RANK].square()
    return (values / values.sum()).tolist()


@pytest.mark.parametrize("tuner", ["lora", "dora"])
def test_every_layer_has_the_entropy_of_its_product(tuner):
    adapted = trained(tuner)
    found = adapter_spectrum(adapted)
    assert set(found["layers"]) == {"0", "2"}
    for name, layer in found["layers"].items():
        module = adapted.get_base_model().get_submodule(name)
        q = energies(module.lora_B["default"].weight @ module.lora_A["default"].weight)
        shares = [x**0.5 / sum(y**0.5 for y in q) for x in q]
        entropy = -sum(x * math.log(x) for x in q)
        assert layer["entropy"] == pytest.approx(entropy / math.log(RANK), rel=1e-6)
        assert layer["effective_rank"] == pytest.approx(
            math.exp(-sum(x * math.log(x) for x in shares)), rel=1e-6
        )
        assert layer["top_energy"] == pytest.approx(max(q), rel=1e-6)
    for key in ("entropy", "effective_rank", "top_energy"):
        mean = sum(layer[key] for layer in found["layers"].values()) / 2
        assert found["mean"][key] == pytest.approx(mean)


def test_adalora_s_values_count():
    adapted = trained("adalora")
    layer = adapted.get_base_model().get_submodule("0")
    rank = len(layer.lora_E["default"])
    product = layer.lora_B["default"] @ (layer.lora_E["default"] * layer.lora_A["default"])
    values = torch.linalg.svdvals(product.detach().double())[:rank].square()
    expected = float(values.max() / values.sum())
    assert adapter_spectrum(adapted)["layers"]["0"]["top_energy"] == pytest.approx(
        expected, rel=1e-5
    )


def test_what_learns_no_product_or_learnt_nothing_has_no_spectrum():
    fresh = adapt(
        nn.Sequential(fresh_linear(9, 7)), AdapterSpec("lora", 2, ["0"]), seed=0, total_steps=1
    )
    assert adapter_spectrum(fresh) is None  # B is still 0
    assert adapter_spectrum(fresh_linear(3, 3)) is None
