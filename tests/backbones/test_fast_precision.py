"""`compute.precision = "auto"`: bfloat16 only where the hardware multiplies it."""

import pytest
import torch

from tailora.backbones.fast_precision import fastest_precision
from tailora.config.recipe import Recipe
from tailora.methods.prepare import with_precision


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"avx2": True}, "fp32"),
        ({"avx512_f": True, "avx512_bf16": False}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_tile": True, "amx_bf16": True}, "bf16"),
        ({}, "fp32"),
    ],
)
def test_a_processor_needs_instructions_for_it(found, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert fastest_precision() == expected


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_that_only_emulates_it_does_not_count(supported, expected, monkeypatch):
    def is_supported(*, including_emulation):
        return supported or including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert fastest_precision() == expected


def test_other_accelerators_keep_single_precision(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert fastest_precision() == "fp32"


def test_what_a_recipe_says_stays():
    recipe = Recipe().override({"compute.precision": "bf16"})
    assert with_precision(recipe) is recipe
