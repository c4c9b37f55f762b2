"""No test sees this machine's caches or its network."""

import huggingface_hub.constants
import pytest
import torch

from tests.tiny import tiny_encoder_folder


@pytest.fixture(autouse=True)
def _apart_from_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("TAILORA_CACHE", str(tmp_path / "tailora-cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def folder(tmp_path):
    return tiny_encoder_folder(tmp_path / "tiny")


@pytest.fixture
def images():
    """Two images of 28 px with 8-bit values."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, 28, 28), dtype=torch.uint8, generator=generator)
