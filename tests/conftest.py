"""What every test shares: nobody moves a global random state, and one tiny encoder."""

import copy
import gc

import pytest

# torch, tailora and what they load are imported where they are used: the process that hands tests
# to the workers loads this file too, before it starts them, and needs none of them


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Thousands of tests and all libraries live to the end: let no collection walk over them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _global_random_states_stay():
    import numpy as np
    import torch

    before = torch.random.get_rng_state()
    numpy_before = np.random.get_state(legacy=False)  # noqa: NPY002 - this is the one to watch
    yield
    assert torch.equal(before, torch.random.get_rng_state()), "torch's global state moved"
    numpy_after = np.random.get_state(legacy=False)  # noqa: NPY002
    assert numpy_before["state"]["pos"] == numpy_after["state"]["pos"], "numpy's moved"
    assert np.array_equal(numpy_before["state"]["key"], numpy_after["state"]["key"])


@pytest.fixture(scope="session")
def _loaded_tiny(tmp_path_factory):
    from tailora.backbones import load_backbone
    from tests.tiny import tiny_encoder_folder

    path = tiny_encoder_folder(tmp_path_factory.mktemp("encoder"), hidden=16)
    return load_backbone(str(path)).model


@pytest.fixture
def tiny_encoder(_loaded_tiny):
    """A frozen DINOv2 of two blocks, 14 px, that gives class token and patch mean: 32 features."""
    from tailora.backbones import Encoder

    encoder = Encoder(copy.deepcopy(_loaded_tiny), pooling="both", mean=[0.5] * 3, std=[0.25] * 3)
    return encoder.requires_grad_(requires_grad=False).eval()


@pytest.fixture(scope="session")
def chips():
    """24 images (3, 14, 14) of 8-bit values; three classes in the ratio 14 : 7 : 3, by colour."""
    import numpy as np
    import torch

    generator = torch.Generator().manual_seed(5)
    labels = np.repeat([0, 1, 2], [14, 7, 3])
    images = torch.randint(0, 120, (24, 3, 14, 14), dtype=torch.uint8, generator=generator)
    for row, label in enumerate(labels):
        images[row, label] += 120
    return images, labels
