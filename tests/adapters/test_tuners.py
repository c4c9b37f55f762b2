import peft
import pytest

from tailora.adapters import resolve_rank, tuner_names
from tailora.adapters.tuners import build_config, spec_of
from tailora.config.recipe import Recipe
from tailora.errors import ConfigError

KNOWN = {"lora", "dora", "rslora", "pissa", "loha", "lokr", "adalora", "vera", "oft", "ia3"}


def config(tuner, *, rank=None, **options):
    return build_config(tuner, rank=rank, targets=["a.b"], options=options)


def test_every_tuner_that_the_method_was_claimed_for_is_there():
    assert set(tuner_names()) >= KNOWN
    assert tuner_names() == sorted(set(tuner_names()))


@pytest.mark.parametrize("tuner", ["prompt_tuning", "prefix_tuning", "p_tuning", "xlora", "poly"])
def test_tuners_of_prompts_and_mixtures_are_not_offered(tuner):
    assert tuner not in tuner_names()
    with pytest.raises(ConfigError, match="unknown tuner"):
        config(tuner)


def test_an_unknown_tuner_names_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown tuner 'lorra'; did you mean 'lora'\?"):
        resolve_rank("lorra", 4)


def test_an_unknown_option_names_the_nearest_of_that_tuner():
    with pytest.raises(
        ConfigError, match=r"unknown option of tuner 'lora' 'lora_alfa'; did you mean 'lora_alpha'"
    ):
        config("lora", lora_alfa=4)


def test_the_rank_is_eight_unless_given():
    assert resolve_rank("lora", None) == 8
    assert resolve_rank("lora", 3) == 3
    assert resolve_rank("dora", None) == 8


@pytest.mark.parametrize("tuner", ["ia3", "ln_tuning", "fourierft", "c3a"])
def test_a_tuner_without_a_rank_refuses_one(tuner):
    assert resolve_rank(tuner, None) is None
    with pytest.raises(ConfigError, match=f"tuner '{tuner}' has no rank, got rank=4"):
        resolve_rank(tuner, 4)


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_below_one_is_refused(rank):
    with pytest.raises(ConfigError, match=f"rank must be at least 1, got {rank}"):
        resolve_rank("lora", rank)


@pytest.mark.parametrize("rank", [1, 5])
def test_alpha_follows_the_rank_so_that_the_scale_stays_two(rank):
    built = config("lora", rank=rank)
    assert (built.r, built.lora_alpha) == (rank, 2 * rank)
    assert config("lokr", rank=rank).alpha == 2 * rank


def test_options_win_over_our_defaults():
    assert config("lora", rank=4, lora_alpha=1, lora_dropout=0.5).lora_alpha == 1
    assert config("dora", use_dora=False).use_dora is False


def test_variants_are_lora_with_one_switch():
    assert config("dora").use_dora
    assert config("rslora").use_rslora
    assert config("pissa").init_lora_weights == "pissa"
    assert config("olora").init_lora_weights == "olora"
    assert {config(name).peft_type.value for name in ("lora", "dora", "rslora")} == {"LORA"}


def test_adalora_starts_at_the_rank_and_prunes_to_half_of_it():
    built = build_config("adalora", rank=8, targets=["a"], options={"total_step": 10})
    assert (built.init_r, built.target_r) == (8, 4)


def test_oft_takes_a_rank_or_a_block_size():
    assert (config("oft", rank=4).r, config("oft", rank=4).oft_block_size) == (4, 0)
    by_block = config("oft", oft_block_size=16)
    assert (by_block.r, by_block.oft_block_size) == (0, 16)


def test_a_value_that_peft_refuses_is_our_error_on_one_line():
    with pytest.raises(ConfigError, match="tuner 'adalora' rejects its options: ") as caught:
        config("adalora", total_step=0)
    assert "\n" not in str(caught.value)


# --- from a PEFT configuration ---


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(r=3, target_modules=["q_proj", "v_proj"]),
        peft.LoraConfig(r=3, lora_alpha=6, use_dora=True, lora_dropout=0.1),
        peft.AdaLoraConfig(init_r=6, target_r=2, tinit=2, tfinal=3, total_step=10),
        peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
        peft.LoHaConfig(r=2, rank_dropout=0.5),
    ],
    ids=lambda config: type(config).__name__,
)
def test_a_peft_config_and_its_specification_make_the_same_adapter(config):
    spec = spec_of(config)
    assert Recipe().override({"adapter.options": spec.options})  # a recipe can hold it
    planned = {"total_step": 10} if spec.tuner == "adalora" else {}  # by the run
    options = {**planned, **spec.options}
    again = build_config(spec.tuner, rank=spec.rank, targets=spec.targets, options=options)
    for name, value in config.to_dict().items():
        if name in ("task_type", "target_modules"):
            continue
        assert again.to_dict()[name] == value, name
    assert set(spec.targets) == set(config.target_modules or ())


def test_a_config_that_no_recipe_can_hold_is_refused():
    with pytest.raises(ConfigError, match="target_modules='all-linear' is a pattern; list endings"):
        spec_of(peft.LoraConfig(target_modules="all-linear"))
    config = peft.LoraConfig()
    config.layers_pattern = object()
    with pytest.raises(ConfigError, match=r"layers_pattern=.* cannot stand in a recipe"):
        spec_of(config)
