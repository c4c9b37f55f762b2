"""Features of Stable Diffusion: the U-Net's middle block on a slightly noisy image.

The image passes through the autoencoder, a little noise is added as in training (time step t), and
the output of the U-Net's middle block is the feature map. A single noise draw is random, so several
are averaged. The draws are the same for every image and every run: features are deterministic.

The prompt is one fixed text without a class, by default empty. The paper's scripts put the true
class into it, also at test time; that leaks the label and is done only by `leaking_prompt.py`.

Reference: debLoRA's public scripts (t = 1, eight draws, middle block); features of diffusion models
follow Tang et al., "Emergent Correspondence from Image Diffusion", NeurIPS 2023; the model is
Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022.
"""

import importlib
from collections.abc import Sequence
from typing import Any, ClassVar, Final, cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput

from tailora.backbones.foundation import FoundationConfig, FoundationModel
from tailora.backbones.pretrained import quiet_loading
from tailora.errors import BackboneError, ConfigError, unknown_name

OPTIONS: Final[dict[str, Any]] = {"timestep": 1, "draws": 8, "prompt": ""}
INSTALL: Final = 'pip install "tailora[diffusers]"'
_SPECIAL: Final = 4  # no vocabulary is this small: beginning, end, unknown, padding
_SEED: Final = 0  # of the draws; part of the model, so that features are reproducible


class StableDiffusionFeatures(FoundationModel):
    """Middle-block features (batch, channels, height / patch, width / patch) of a latent U-Net.

    Args:
        unet: A diffusers `UNet2DConditionModel`.
        vae: A diffusers `AutoencoderKL`; its decoder is not needed.
        scheduler: A diffusers scheduler with the noise levels of training.
        text: Embedding of the prompt (1, tokens, width).
        timestep: Noise level, from 0 (almost none) to the scheduler's last.
        draws: Number of noise draws to average, at least 1; time grows linearly, noise falls with
            the square root.

    Raises:
        ConfigError: A time step or number of draws out of range.
        BackboneError: A U-Net that needs more than a time step and a text.
    """

    adapted_parts: ClassVar[tuple[str, ...]] = ("unet.down_blocks", "unet.mid_block")
    beyond_features: ClassVar[tuple[str, ...]] = ("unet.up_blocks", "unet.conv_out")
    text: Tensor

    def __init__(
        self,
        unet: Any,
        vae: Any,
        scheduler: Any,
        text: Tensor,
        *,
        timestep: int = OPTIONS["timestep"],
        draws: int = OPTIONS["draws"],
    ) -> None:
        _check_parts(unet, text)
        levels = scheduler.config.num_train_timesteps
        if not 0 <= timestep < levels or draws < 1:
            raise ConfigError(
                f"backbone.options: timestep must lie in [0, {levels - 1}] and draws be at least 1,"
                f" got {timestep} and {draws}"
            )
        latent = 2 ** (len(vae.config.block_out_channels) - 1)
        super().__init__(
            FoundationConfig(
                model_type="stable-diffusion",
                num_channels=vae.config.in_channels,
                patch_size=latent * 2 ** (len(unet.config.block_out_channels) - 1),
                image_size=latent * _side(unet.config.sample_size),
            )
        )
        self.unet, self.vae, self.scheduler = unet, vae, scheduler
        self.timestep, self.draws = timestep, draws
        self.register_buffer("text", text)

    def forward(self, pixel_values: Tensor) -> BaseModelOutput:
        """Average the middle block's output over the draws of noise.

        Args:
            pixel_values: Images (batch, bands, height, width) in -1..1.
        """
        generator = torch.Generator().manual_seed(_SEED)
        moments = self._moments(pixel_values)
        total = torch.zeros(())
        for _ in range(self.draws):
            latents = self._sample(moments, generator)
            noise = _normal(latents.shape[1:], generator, like=latents)
            levels = torch.full((len(latents),), self.timestep, device=latents.device)
            noisy = self.scheduler.add_noise(latents, noise.expand_as(latents), levels)
            total = total + self.middle(noisy, levels)
        # the output has the name used in transformers; the tensor is a feature map
        return BaseModelOutput(last_hidden_state=cast("Any", total / self.draws))

    def middle(self, noisy: Tensor, levels: Tensor) -> Tensor:
        """Run the first half of the U-Net.

        Args:
            noisy: Latents with noise (batch, channels, height, width).
            levels: Their time steps (batch,).
        """
        unet, text = self.unet, self._text_for(noisy)
        time = unet.time_embedding(unet.time_proj(levels).to(noisy.dtype))
        sample = unet.conv_in(noisy)
        for block in unet.down_blocks:
            more = {"encoder_hidden_states": text} if _attends(block) else {}
            sample, _ = block(hidden_states=sample, temb=time, **more)
        more = {"encoder_hidden_states": text} if _attends(unet.mid_block) else {}
        return unet.mid_block(sample, time, **more)

    def denoising_loss(self, pixel_values: Tensor, generator: torch.Generator) -> Tensor:
        """Return the U-Net's error in predicting the noise in noisy latents: its training loss.

        Args:
            pixel_values: Images (batch, bands, height, width) in -1..1.
            generator: On the CPU; draws the latents, the noise and a time step per image.

        Returns:
            Mean squared error, a scalar.

        Reference:
            Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020, equation 14; with
            `prediction_type = "v_prediction"` the target is that of Salimans and Ho, ICLR 2022.
        """
        with torch.no_grad():
            mean, deviation = self._moments(pixel_values)
            own = _normal(mean.shape, generator, like=mean)
            latents = (mean + deviation * own) * self.vae.config.scaling_factor
        noise = _normal(latents.shape, generator, like=latents)
        last = self.scheduler.config.num_train_timesteps
        levels = torch.randint(0, last, (len(latents),), generator=generator).to(latents.device)
        noisy = self.scheduler.add_noise(latents, noise, levels)
        told = self.unet(noisy, levels, encoder_hidden_states=self._text_for(noisy)).sample
        return functional.mse_loss(told.float(), self._target(latents, noise, levels).float())

    def _target(self, latents: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        kind = self.scheduler.config.prediction_type
        if kind == "v_prediction":
            return self.scheduler.get_velocity(latents, noise, levels)
        if kind != "epsilon":
            raise BackboneError(
                f"diffusion models that predict {kind!r} are not supported; use one whose "
                "scheduler has 'epsilon' or 'v_prediction'"
            )
        return noise

    def _moments(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the latents, unscaled."""
        found = self.vae.encode(pixels).latent_dist
        return found.mean, found.std

    def _sample(self, moments: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
        mean, deviation = moments
        own = _normal(mean.shape[1:], generator, like=mean)
        return (mean + deviation * own) * self.vae.config.scaling_factor

    def _text_for(self, latents: Tensor) -> Tensor:
        return self.text.to(latents.dtype).expand(len(latents), -1, -1)


def load_stable_diffusion(
    where: str, *, local: bool, options: dict[str, Any]
) -> StableDiffusionFeatures:
    """Load autoencoder, U-Net, noise levels and the prompt's embedding of a diffusers pipeline.

    Args:
        where: A folder with `model_index.json`, or a name on the hub.
        local: Use this machine only.
        options: `timestep`, `draws` and `prompt`, see `StableDiffusionFeatures`.

    Raises:
        ConfigError: An unknown option, or a value out of range.
        BackboneError: diffusers is not installed, or a part is missing or damaged.
        OSError: There are no such files.
    """
    chosen = _check_options(options)
    try:
        diffusers: Any = importlib.import_module("diffusers")
    except ImportError as error:
        raise BackboneError(f"Stable Diffusion needs diffusers; {INSTALL}") from error
    text = embed_prompts(where, [chosen.pop("prompt")], local=local)
    with torch.random.fork_rng(devices=[]):
        vae: Any = _part(diffusers.AutoencoderKL, where, "vae", local=local)
        unet: Any = _part(diffusers.UNet2DConditionModel, where, "unet", local=local)
    scheduler = diffusers.DDIMScheduler.from_pretrained(
        where, subfolder="scheduler", local_files_only=local
    )
    del vae.decoder, vae.post_quant_conv  # images are never generated
    return StableDiffusionFeatures(unet, vae, scheduler, text, **chosen).eval()


def embed_prompts(where: str, prompts: Sequence[str], *, local: bool) -> Tensor:
    """Embed texts as the pipeline's U-Net expects them: (prompts, tokens, width).

    Raises:
        OSError: The pipeline has no tokenizer or text encoder.
    """
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(
        where, subfolder="tokenizer", local_files_only=local, trust_remote_code=False
    )
    with quiet_loading(progress=not local), torch.random.fork_rng(devices=[]):
        encoder = CLIPTextModel.from_pretrained(
            where,
            subfolder="text_encoder",
            local_files_only=local,
            trust_remote_code=False,
            dtype=torch.float32,
        ).eval()
    if (
        not _SPECIAL < len(tokenizer) <= encoder.config.vocab_size
    ):  # if missing, an empty one would be made up
        raise OSError(
            f"its tokenizer has {len(tokenizer)} tokens and does not match its text encoder"
        )
    tokens = tokenizer(
        list(prompts), padding="max_length", truncation=True, return_tensors="pt",
        max_length=encoder.config.max_position_embeddings,
    )  # fmt: skip
    with torch.no_grad():
        return encoder(tokens.input_ids).last_hidden_state


def _part(kind: Any, where: str, name: str, *, local: bool) -> Any:
    model, info = kind.from_pretrained(
        where, subfolder=name, local_files_only=local, torch_dtype=torch.float32,
        output_loading_info=True, low_cpu_mem_usage=False,
    )  # fmt: skip
    if missing := sorted(info["missing_keys"]):
        raise BackboneError(
            f"the {name} in {where!r} lacks {len(missing)} weights ({', '.join(missing[:3])}); "
            "download it again"
        )
    return model


def _check_options(options: dict[str, Any]) -> dict[str, Any]:
    for name, value in options.items():
        if name not in OPTIONS:
            raise unknown_name("option of Stable Diffusion", name, OPTIONS)
        kind = type(OPTIONS[name])
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ConfigError(f"backbone.options: {name} must be {kind.__name__}, got {value!r}")
    return OPTIONS | options


def _check_parts(unet: Any, text: Tensor) -> None:
    wanted = unet.config.cross_attention_dim
    wanted = wanted if isinstance(wanted, int) else max(wanted)
    if unet.config.addition_embed_type or unet.config.class_embed_type:
        raise BackboneError(
            "this U-Net needs more than a time step and a text (like SDXL); use a Stable "
            "Diffusion 1.x or 2.x"
        )
    if text.shape[-1] != wanted:
        raise BackboneError(
            f"the text encoder has width {text.shape[-1]} and the U-Net expects {wanted}; they "
            "belong to different models"
        )


def _attends(block: Any) -> bool:
    return bool(getattr(block, "has_cross_attention", False))


def _side(size: Any) -> int:
    return size if isinstance(size, int) else max(size)


def _normal(shape: Sequence[int], generator: torch.Generator, *, like: Tensor) -> Tensor:
    """Draw on the CPU, so that every device gets the same noise."""
    if like.device.type == "meta":
        return torch.empty(tuple(shape), device="meta", dtype=like.dtype)
    return torch.randn(tuple(shape), generator=generator).to(like)
