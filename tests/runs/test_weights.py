import errno
import resource
from contextlib import contextmanager

import pytest
import torch
from peft import PeftModel
from torch import nn

from tailora.adapters import AdapterSpec, trained_parameters, without_peft_noise
from tailora.errors import RunError, StorageError
from tailora.runs.weights import (
    copy_saved,
    is_saved,
    load_adapted,
    load_head,
    save_adapted,
    save_head,
    weights_fingerprint,
)
from tailora.train.base_adaptation import with_adapter

SPECS = [AdapterSpec("lora", 4), AdapterSpec("pissa", 4), AdapterSpec("olora", 4), None]


def trained(encoder, spec, seed=0):
    """An encoder whose trainable weights all differ from where they started."""
    adapted = with_adapter(encoder, spec, seed=seed, total_steps=1)
    generator = torch.Generator().manual_seed(seed + 1)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapted.eval()


def linear(seed=0):
    head = nn.utils.skip_init(nn.Linear, 5, 3)
    generator = torch.Generator().manual_seed(seed)
    head.weight.data.copy_(torch.randn(3, 5, generator=generator))
    head.bias.data.copy_(torch.randn(3, generator=generator))
    return head


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@contextmanager
def small_files(size):
    """A disk on which no file can grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("spec", SPECS)
def test_what_is_loaded_gives_the_same_features_to_the_bit(spec, tiny_encoder, chips, tmp_path):
    encoder = trained(tiny_encoder, spec)
    save_adapted(encoder, tmp_path)
    loaded = load_adapted(tiny_encoder, tmp_path)
    assert torch.equal(loaded(chips[0]), encoder(chips[0]))
    assert not torch.equal(loaded(chips[0]), tiny_encoder(chips[0]))
    assert not loaded.training


def test_an_adapter_folder_holds_what_peft_opens_and_no_more(tiny_encoder, chips, tmp_path):
    encoder = trained(tiny_encoder, SPECS[0])
    save_adapted(encoder, tmp_path / "lora")
    assert names(tmp_path) == [
        "lora", "lora/adapter",
        "lora/adapter/adapter_config.json", "lora/adapter/adapter_model.safetensors",
    ]  # fmt: skip
    plain = load_adapted(tiny_encoder, tmp_path / "nothing")
    with torch.random.fork_rng(), without_peft_noise():
        plain.backbone = PeftModel.from_pretrained(plain.backbone, str(tmp_path / "lora/adapter"))
    assert torch.equal(plain.eval()(chips[0]), encoder(chips[0]))


def test_where_nothing_was_saved_the_encoder_stays_pretrained(tiny_encoder, chips, tmp_path):
    loaded = load_adapted(tiny_encoder, tmp_path)
    assert loaded is not tiny_encoder
    assert torch.equal(loaded(chips[0]), tiny_encoder(chips[0]))


@pytest.mark.parametrize("trainable", [True, False])
def test_an_adapter_learns_on_only_when_asked(trainable, tiny_encoder, tmp_path):
    encoder = trained(tiny_encoder, SPECS[0])
    save_adapted(encoder, tmp_path)
    loaded = load_adapted(tiny_encoder, tmp_path, trainable=trainable)
    assert trained_parameters(loaded) == (trained_parameters(encoder) if trainable else 0)


def test_the_pretrained_encoder_is_not_changed_by_loading(tiny_encoder, chips, tmp_path):
    before = tiny_encoder(chips[0])
    for spec in SPECS:
        save_adapted(trained(tiny_encoder, spec), tmp_path / str(spec and spec.tuner))
        load_adapted(tiny_encoder, tmp_path / str(spec and spec.tuner))
    assert torch.equal(tiny_encoder(chips[0]), before)


def test_saving_again_replaces(tiny_encoder, chips, tmp_path):
    for seed in (1, 2):
        encoder = trained(tiny_encoder, SPECS[0], seed)
        save_adapted(encoder, tmp_path)
    assert torch.equal(load_adapted(tiny_encoder, tmp_path)(chips[0]), encoder(chips[0]))


@pytest.mark.parametrize("spec", [SPECS[0], None])
def test_it_is_known_whether_something_was_saved(spec, tiny_encoder, tmp_path):
    assert not is_saved(tmp_path)
    save_adapted(trained(tiny_encoder, spec), tmp_path)
    assert is_saved(tmp_path)


def test_an_adapter_without_one_of_its_files_is_not_saved(tiny_encoder, tmp_path):
    save_adapted(trained(tiny_encoder, SPECS[0]), tmp_path)
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    assert not is_saved(tmp_path)


@pytest.mark.parametrize("spec", [SPECS[0], None])
def test_equal_weights_have_equal_fingerprints_and_others_others(spec, tiny_encoder, tmp_path):
    marks = []
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        save_adapted(trained(tiny_encoder, spec, seed), tmp_path / place)
        marks.append(weights_fingerprint(tmp_path / place))
    assert marks[0] == marks[1] != marks[2]
    assert weights_fingerprint(tmp_path / "none") == "pretrained"


@pytest.mark.parametrize("spec", [SPECS[0], None])
def test_a_copy_is_as_good_as_what_was_saved(spec, tiny_encoder, chips, tmp_path):
    encoder = trained(tiny_encoder, spec)
    save_adapted(encoder, tmp_path / "stage")
    save_head(linear(), tmp_path / "stage" / "head.safetensors")
    copy_saved(tmp_path / "stage", tmp_path / "run")
    assert names(tmp_path / "run") == names(tmp_path / "stage")
    assert torch.equal(load_adapted(tiny_encoder, tmp_path / "run")(chips[0]), encoder(chips[0]))


def test_a_head_survives_to_the_bit_and_is_frozen(tmp_path):
    head = linear()
    save_head(head, tmp_path / "head.safetensors")
    loaded = load_head(tmp_path / "head.safetensors")
    assert torch.equal(loaded.weight, head.weight)
    assert torch.equal(loaded.bias, head.bias)
    assert trained_parameters(loaded) == 0


def test_a_missing_head_says_that_the_run_is_incomplete(tmp_path):
    with pytest.raises(RunError, match=r"head '.*head.safetensors' is missing.*incomplete"):
        load_head(tmp_path / "head.safetensors")


def test_damaged_weights_are_named(tiny_encoder, tmp_path):
    (tmp_path / "head.safetensors").write_bytes(b"half")
    with pytest.raises(RunError, match=r"head.safetensors' are damaged .*--force"):
        load_head(tmp_path / "head.safetensors")
    for spec, name in (
        (SPECS[0], "adapter/adapter_model.safetensors"),
        (None, "backbone.safetensors"),
    ):
        folder = tmp_path / name.split(".")[0].replace("/", "-")
        save_adapted(trained(tiny_encoder, spec), folder)
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RunError, match=r"are damaged .*--force") as caught:
            load_adapted(tiny_encoder, folder)
        assert "\n" not in str(caught.value)


# --- a full disk ---


@pytest.mark.parametrize("spec", [SPECS[0], None])
def test_on_a_full_disk_nothing_is_left(spec, tiny_encoder, tmp_path):
    with small_files(2000), pytest.raises(StorageError, match="no space left while writing"):
        save_adapted(trained(tiny_encoder, spec), tmp_path / "stage")
    assert not is_saved(tmp_path / "stage")
    assert names(tmp_path) in ([], ["stage"])


def test_on_a_full_disk_what_was_saved_before_is_kept(tiny_encoder, chips, tmp_path):
    encoder = trained(tiny_encoder, SPECS[0])
    save_adapted(encoder, tmp_path)
    with small_files(2000), pytest.raises(StorageError):
        save_adapted(trained(tiny_encoder, SPECS[0], seed=5), tmp_path)
    assert torch.equal(load_adapted(tiny_encoder, tmp_path)(chips[0]), encoder(chips[0]))


def test_a_head_that_does_not_fit_is_not_written(tmp_path):
    with small_files(10), pytest.raises(StorageError, match=r"no space left .*head.safetensors"):
        save_head(linear(), tmp_path / "head.safetensors")
    assert names(tmp_path) == []


def test_a_copy_that_does_not_fit_is_not_left(tiny_encoder, tmp_path, monkeypatch):
    save_adapted(trained(tiny_encoder, SPECS[0]), tmp_path / "stage")

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tailora.runs.weights.shutil.copytree", full)
    with pytest.raises(StorageError, match="no space left"):
        copy_saved(tmp_path / "stage", tmp_path / "run")
    assert not is_saved(tmp_path / "run")
