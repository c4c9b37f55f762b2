import json
import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel
from transformers.utils import logging as transformers_logging

from tailora.backbones.pretrained import load_pretrained, weights_sha256
from tailora.errors import BackboneError
from tests.tiny import tiny_encoder_folder


def rewrite(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def reconfigure(folder, **settings):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **settings}), "utf-8")


def load(folder):
    return load_pretrained(str(folder), local=True)


def test_missing_weights_are_listed(folder):
    rewrite(folder, lambda tensors: tensors.pop("layernorm.weight"))
    with pytest.raises(BackboneError, match=r"1 missing \(layernorm\.weight\)"):
        load(folder)


@pytest.mark.parametrize("kind", ["vit", "clip", "siglip", "vit-mae", "dinov3"])
def test_a_deeper_checkpoint_than_its_config_is_an_error(kind, tmp_path):
    """Otherwise the last blocks would be dropped without a word."""
    folder = tiny_encoder_folder(tmp_path / kind, kind)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    shallow = {"num_hidden_layers": 1, "out_features": None, "out_indices": None}
    if "vision_config" in config:
        shallow = {"vision_config": {**config["vision_config"], **shallow}}
    reconfigure(folder, **shallow)
    with pytest.raises(BackboneError, match=r"1\d unexpected \(.*layers?\.1\..*, \.\.\.\)"):
        load(folder)


def test_a_shallower_checkpoint_than_its_config_is_an_error(folder):
    reconfigure(folder, num_hidden_layers=3)
    with pytest.raises(BackboneError, match=r"18 missing \(encoder\.layer\.2\..*, \.\.\.\)"):
        load(folder)


def test_weights_of_another_shape_are_listed(folder):
    reconfigure(folder, image_size=28)
    with pytest.raises(BackboneError, match=r"1 of another shape \(embeddings\.position_embed"):
        load(folder)


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_a_learned_pooler_is_not_loaded(kind, tmp_path):
    """Many checkpoints lack its weights, which would then be random ones."""
    folder = tiny_encoder_folder(tmp_path / kind, kind)
    assert load(folder).pooler is None


def test_half_precision_checkpoints_are_widened(folder):
    rewrite(folder, lambda tensors: tensors.update({k: v.half() for k, v in tensors.items()}))
    reconfigure(folder, dtype="float16")
    assert {p.dtype for p in load(folder).parameters()} == {torch.float32}


def test_the_token_of_masked_training_may_be_missing(folder):
    rewrite(folder, lambda tensors: tensors.pop("embeddings.mask_token"))
    assert weights_sha256(load(folder)) == weights_sha256(load(folder))


@pytest.mark.parametrize("content", [b"", b"version https", b"\x10" + b"\x00" * 40])
def test_a_damaged_file_is_one_line(content, folder):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(BackboneError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_damaged_config_is_one_line(folder):
    (folder / "config.json").write_text("{", "utf-8")
    with pytest.raises(BackboneError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_model_type_from_the_future_is_one_line(folder):
    reconfigure(folder, model_type="dinov9")
    with pytest.raises(BackboneError, match="dinov9") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_text_model_is_no_image_encoder(tmp_path):
    config = BertConfig(
        hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1, vocab_size=5
    )
    with torch.random.fork_rng(devices=[]):
        BertModel(config).save_pretrained(tmp_path / "text")
    with pytest.raises(BackboneError, match="is a 'bert' model, which is not an image encoder"):
        load(tmp_path / "text")


@pytest.fixture
def talkative():
    """The library with its warnings and progress bars on, and what it logs in a list."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    level = transformers_logging.get_verbosity()
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_warning()
    transformers_logging.enable_progress_bar()
    transformers_logging.add_handler(handler)
    yield records
    transformers_logging.remove_handler(handler)
    transformers_logging.set_verbosity(level)
    if not shown:
        transformers_logging.disable_progress_bar()


def test_loading_is_silent_and_leaves_the_library_as_talkative_as_it_was(
    talkative, tmp_path, capfd
):
    folder = tiny_encoder_folder(tmp_path / "clip", "clip")  # its text tower is left over
    capfd.readouterr()
    load(folder)
    assert talkative == []
    assert capfd.readouterr() == ("", "")
    assert transformers_logging.get_verbosity() == logging.WARNING
    assert transformers_logging.is_progress_bar_enabled()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 5), st.sampled_from([0.5, 2.0, -1.0]))
def test_the_fingerprint_changes_with_any_weight(index, factor):
    module = nn.Module()
    module.weight = nn.Parameter(torch.arange(1.0, 7).reshape(2, 3))
    before = weights_sha256(module)
    assert weights_sha256(module) == before
    module.weight.data.view(-1)[index] *= factor
    assert weights_sha256(module) != before


def test_the_fingerprint_sees_shapes_and_types_but_not_names():
    one, other = nn.Module(), nn.Module()
    one.a, one.b = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.zeros(2))
    other.x, other.y = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2, 3))
    assert weights_sha256(one) == weights_sha256(other)
    other.y.data = torch.ones(3, 2)
    assert weights_sha256(one) != weights_sha256(other)
    other.y.data = torch.ones(2, 3)
    assert weights_sha256(one) != weights_sha256(other.half())


def test_code_that_lies_beside_an_encoder_is_neither_run_nor_asked_for(tmp_path, monkeypatch):
    folder, ran = tmp_path / "encoder", tmp_path / "ran"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"}})
    )
    (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n")
    (folder / "model.safetensors").write_bytes(b"")

    def asked(*_words):
        raise AssertionError("asked whether to run the code")

    monkeypatch.setattr("builtins.input", asked)
    with pytest.raises(BackboneError, match="never run"):
        load_pretrained(str(folder), local=True)
    assert not ran.exists()
