"""Formulas of the cost model against counts of what really runs, and against loops."""

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import Dinov2Config, Dinov2Model, ViTMAEConfig, ViTMAEForPreTraining

from benchmarks import cost_model
from benchmarks.cost_model import Machine, Vit, Work, bound
from tailora.backbones import Encoder

IMAGES, RANK = 3, 2
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 7}
VIT = Vit(width=32, depth=3, hidden=64, patches=9, patch_values=147)


@pytest.fixture(scope="module")
def bare():
    with torch.random.fork_rng():
        config = Dinov2Config(**SIZES, mlp_ratio=2, image_size=21, attn_implementation="eager")
        return Dinov2Model(config).requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def adapted(bare):
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    with torch.random.fork_rng():
        return get_peft_model(copy.deepcopy(bare), LoraConfig(r=RANK, target_modules=targets))


@pytest.fixture
def pixels():
    return torch.randn(IMAGES, 3, 21, 21, generator=torch.Generator().manual_seed(0))


def passes(model, pixels):
    """Operations of the forward and of the backward pass, as torch counts them."""
    with FlopCounterMode(display=False) as ahead:
        value = model(pixels).last_hidden_state.sum()
    with FlopCounterMode(display=False) as back:
        value.backward()
    return ahead.get_total_flops(), back.get_total_flops()


def test_forward_is_what_torch_counts(bare, pixels):
    with FlopCounterMode(display=False) as counter:
        bare(pixels)
    assert cost_model.forward(VIT, IMAGES).operations == counter.get_total_flops()


def test_lora_is_what_torch_counts(adapted, pixels):
    ahead, back = passes(adapted, pixels)
    assert cost_model.forward(VIT, IMAGES, rank=RANK).operations == ahead
    assert cost_model.backward(VIT, IMAGES, rank=RANK).operations == back


def test_learning_all_weights_is_what_torch_counts(bare, pixels):
    model = copy.deepcopy(bare).requires_grad_(requires_grad=True)
    _, back = passes(model, pixels)
    assert cost_model.backward(VIT, IMAGES, rank=None).operations == back


def test_a_masked_step_is_what_torch_counts(pixels):
    config = ViTMAEConfig(
        **SIZES, intermediate_size=64, image_size=21, decoder_hidden_size=16,
        decoder_num_hidden_layers=2, decoder_num_attention_heads=2, decoder_intermediate_size=32,
        mask_ratio=0.75, attn_implementation="eager",
    )  # fmt: skip
    with torch.random.fork_rng():
        model = ViTMAEForPreTraining(config)
        with FlopCounterMode(display=False) as counter:
            model(pixels).loss.backward()
    decoder = Vit(width=16, depth=2, hidden=32, patches=9, patch_values=147)
    found = cost_model.masked_step(VIT, decoder, IMAGES, seen=0.25).operations
    assert found == counter.get_total_flops()


def test_parameters_are_those_of_the_model(bare, adapted):
    matrices = [p for p in bare.encoder.parameters() if p.ndim == 2]
    stem = bare.embeddings.patch_embeddings.projection.weight
    assert VIT.parameters == sum(p.numel() for p in matrices) + stem.numel()
    learnt = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert VIT.adapter_parameters(RANK) == learnt


class Traffic(TorchDispatchMode):
    """Bytes of all inputs and outputs of whatever runs and is no mere view."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [x for x in (*args, result) if isinstance(x, torch.Tensor)]
        tensors += [x for y in (*args, result) if isinstance(y, list | tuple) for x in y]
        if not function.is_view and "view" not in str(function):
            self.bytes += sum(x.nbytes for x in tensors if isinstance(x, torch.Tensor))
        return result


def seen_by(backbone):
    backbone.set_attn_implementation("sdpa")
    return Encoder(backbone, pooling="both", mean=[0.5] * 3, std=[0.5] * 3)


@pytest.mark.parametrize("rank", [0, RANK])
def test_bytes_forward_are_about_those_of_the_operators(bare, adapted, rank):
    encoder = seen_by(copy.deepcopy(adapted if rank else bare))
    images = torch.zeros(4 * IMAGES, 3, 21, 21, dtype=torch.uint8)
    with torch.no_grad(), Traffic() as traffic:
        encoder(images)
    found = cost_model.forward(VIT, 4 * IMAGES, rank=rank).bytes
    assert found == pytest.approx(traffic.bytes, rel=0.15)


@pytest.mark.parametrize("rank", [None, RANK])
def test_bytes_backward_are_about_those_of_the_operators(bare, adapted, rank):
    encoder = seen_by(copy.deepcopy(adapted if rank else bare))
    if rank is None:
        encoder.requires_grad_(requires_grad=True)
    value = encoder(torch.zeros(4 * IMAGES, 3, 21, 21, dtype=torch.uint8)).sum()
    with Traffic() as traffic:
        value.backward()
    found = cost_model.backward(VIT, 4 * IMAGES, rank=rank).bytes
    assert found == pytest.approx(traffic.bytes, rel=0.15)


def test_an_iteration_of_k_means_is_what_loops_count():
    samples, features, clusters, count = 5, 3, 2, 0
    for _ in range(samples):
        for _ in range(clusters):
            for _ in range(features):
                count += 2  # a product and its sum
            count += 2  # the centre's own square; is it the nearest so far?
        for _ in range(features):
            count += 1  # into its cluster's sum
    assert cost_model.lloyd_iteration(samples, features, clusters).operations == count


def test_an_evaluation_of_the_probe_is_two_products():
    x, weights = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(4, 6)
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.linear(x, weights.requires_grad_()).sum().backward()
    assert cost_model.probe_evaluation(20, 6, 4).operations == counter.get_total_flops()


def test_the_axes_of_the_probe_are_two_products_and_an_eigenproblem():
    found = cost_model.probe_axes(1000, 8).operations
    assert found == 2 * (2 * 1000 * 8 * 8) + 9 * 8**3


def test_moving_grows_with_what_moves():
    few, many = (
        cost_model.moving(100, 4, clusters=5, classes=3, moved=moved) for moved in (10, 30)
    )
    assert many.operations - few.operations == 20 * 4 * 3  # two products and a sum a number
    assert many.bytes - few.bytes == 20 * 4 * 4 * 2  # read and written


@pytest.mark.parametrize(
    ("work", "double", "limit", "seconds"),
    [
        (Work(8e9, 1e9), False, "arithmetic", 2.0),
        (Work(8e9, 1e9), True, "arithmetic", 4.0),
        (Work(8e9, 30e9), False, "memory", 3.0),
    ],
)
def test_the_slower_limit_binds(work, double, limit, seconds):
    found = bound(work, Machine(gflops=4, gflops_double=2, gbytes=10), double=double)
    assert (found["limit"], found["predicted_seconds"]) == (limit, seconds)


def test_momentum_pretraining_costs_more_than_four_forward_passes():
    found = cost_model.momentum_step(VIT, IMAGES, hidden=8, out=4).operations
    once = cost_model.forward(VIT, IMAGES).operations
    back = cost_model.backward(VIT, IMAGES, rank=None).operations
    projector, predictor = 32 * 8 + 8 * 8 + 8 * 4, 4 * 8 + 8 * 4
    # a view learns (three times a forward) and is seen by the slow copy, which has no predictor
    heads = 2 * IMAGES * (3 * (projector + predictor) + projector)
    assert np.isclose(found, 2 * (2 * once + back + heads))
