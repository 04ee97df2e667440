"""MusicGen (arXiv 2306.05284): a transformer over codec tokens, with or without text."""

import math
import re
import typing as tp
from pathlib import Path

import torch

from ..errors import BadArgument, UserError
from ..utils import left_out
from ..utils.device import codec_device, resolve_device
from ..utils.takes import chosen
from .genmodel import BaseGenModel

# Short names of the peer's models on the hub.
_HUB_NAMES = {size: f"facebook/musicgen-{size}" for size in ("small", "medium", "large", "melody", "style")}
# Models of the peer that are not served, told apart before they are fetched.
_NOT_SERVED = re.compile(r"facebook/(musicgen-(melody|style|stereo)|audiogen|magnet|jasco|multiband)")

_LONGEST = 24 * 3600.0


class MusicGen(BaseGenModel):
    """Music from nothing, from a piece of audio, or (a model with text) from a description."""

    @staticmethod
    def get_pretrained(
        name: str | Path = "facebook/musicgen-small",
        device: torch.device | str | None = None,
        precision: str = "float32",
    ) -> "MusicGen":
        """Load a model for playing.

        Args:
            name: the folder of an export (`state_dict.bin` + `compression_state_dict.bin`, ours or the peer's, or
                `model.safetensors` + `config.yaml`), a run of this project (signature, `//sig/SIG` or folder; the
                averaged weights), a hub id, or `debug` (tiny and random).
            device: where to; None takes the fastest there is. On mps the codec is on the CPU.
            precision: see `set_precision`. In others than float32 the weights of `lm` stay on the CPU, and a GPU holds
                those that are played alone.
        Raises:
            UserError: nothing by that name, damaged files, or a codec that does not match the language model.
        """
        from ..checkpoints.packages import codec_of
        from . import builders, loaders
        from .fast import resolve_precision

        device = resolve_device(device)
        plain = resolve_precision(precision, device) == "float32"  # asked before anything is read
        home, codec_home = device if plain else torch.device("cpu"), codec_device(device)
        if name == "debug":
            codec = builders.get_debug_compression_model(codec_home)
            model = MusicGen("debug", codec, builders.get_debug_lm_model(home), max_duration=30)
            model.device = device
            model.set_precision(precision)
            return model
        name = _HUB_NAMES.get(str(name), str(name))
        if _NOT_SERVED.match(name) and not Path(name).exists():
            raise UserError(left_out.message(name))
        package = loaders.load_lm_model_ckpt(name)
        lm = loaders.build_lm_model(package, home)
        codec_name = codec_of(package, name)
        model = MusicGen(name, loaders.load_compression_model(codec_name, codec_home), lm)
        model.device = device
        model.set_precision(precision)
        model.files = {"model": str(package["path"]), "codec": codec_name}
        return model

    def __getattr__(self, name: str) -> tp.Any:
        # Asked only for what is not there.
        if name in left_out.METHODS:
            raise AttributeError(left_out.message(f"MusicGen.{name}"))
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def set_generation_params(
        self,
        use_sampling: bool = True,
        top_k: int | None = None,
        top_p: float | None = None,
        temperature: float | None = None,
        duration: float = 30.0,
        cfg_coef: float = 3.0,
        two_step_cfg: bool = False,
        extend_stride: float | None = None,
        min_p: float | None = None,
        cool: float | None = None,
        repetition: float | None = None,
    ) -> None:
        """Set how to generate.

        Of `top_k`, `top_p`, `temperature`, `min_p`, `cool` and `repetition`, None is the model's own (`own_sampling`),
        else 250, 0, 1, 0, 1 and 0; see `audiocraft.utils.takes.chosen`.

        Args:
            use_sampling: draw each token from its distribution; False takes the likeliest (greedy).
            top_k: keep the k likeliest tokens; 0 keeps all.
            top_p: if above 0, keep the likeliest tokens up to this probability, and `top_k` is not used.
            temperature: above 1 is wilder, below 1 tamer.
            duration: seconds, a prompt included.
            cfg_coef: strength of text guidance (arXiv 2207.12598); no effect on a model without text.
            two_step_cfg: run the guided and the free half one after the other (less memory).
            extend_stride: beyond the model's reach, seconds each further window adds; the rest of the window is the
                context it continues. None is the smaller of 18 s and 60 % of the reach, which are also taken where it
                is not below the reach.
            min_p: keep tokens with at least this share of the likeliest one's probability (arXiv 2407.01082); 0 is off.
            cool: the temperature of codebook k, the first is 0, is temperature * cool^k; 1 is off.
            repetition: nats that a code of the first codebook loses where it fills the last second, and in proportion;
                0 is off. These three in full, and what comes before what: see `Sampling`.
        Raises:
            UserError: a value that makes no sense.
        """
        try:
            knobs = {"top_k": top_k, "top_p": top_p, "temperature": temperature}
            knobs |= {"min_p": min_p, "cool": cool, "repetition": repetition}
            sampling = chosen({**knobs, "greedy": not use_sampling}, self.own_sampling)
        except ValueError as error:
            raise BadArgument(str(error)) from error
        if not 0 < duration < float("inf"):
            raise UserError(f"a duration of {duration:g} s is nothing; give seconds above 0")
        if duration > _LONGEST:
            raise UserError(f"a duration of {duration:g} s is more than a day; ask for less")
        if not math.isfinite(cfg_coef):
            raise UserError(f"a cfg_coef of {cfg_coef:g} is no strength; give a number such as 3, or 1 for no guidance")
        if extend_stride is not None and not extend_stride > 0:
            raise UserError(f"extend_stride {extend_stride:g} s adds nothing; give seconds above 0")
        self.duration = duration
        self.extend_stride = extend_stride
        self.generation_params = {
            "use_sampling": use_sampling,
            "temp": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "cool": sampling.cool,
            "repetition": sampling.repetition,
            "cfg_coef": cfg_coef,
            "two_step_cfg": two_step_cfg,
        }

    @property
    def settings(self) -> dict[str, tp.Any]:
        """What was set last and is used next, as `set_generation_params` takes it."""
        names = {"temp": "temperature"}
        params = {names.get(name, name): value for name, value in self.generation_params.items()}
        return {"duration": self.duration, **params, "extend_stride": self.extend_stride}
