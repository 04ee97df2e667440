"""What every generating model does: hold a codec and a language model that fit, turn tokens into sound."""

import logging
import sys
import typing as tp
from abc import ABC, abstractmethod

import torch
from torch.nn import functional as F

from ..checkpoints.configs import trained_rate, trained_reach
from ..errors import UserError
from ..modules.conditioners import ConditioningAttributes
from ..utils.device import fork_guard
from ..utils.takes import own_knobs
from .codec import CompressionModel
from .lm import LMModel

if tp.TYPE_CHECKING:
    import numpy as np

    from .playback import Playback
    from .stream import Streamer, StreamState
    from .windows import SongDecoder, SongState

logger = logging.getLogger(__name__)

ProgressCallback = tp.Callable[[int, int], None]
DEFAULT_MAX_DURATION = 30.0
_STRIDE_SHARE = 0.6  # the peer's 18 s of 30 s
_LONGEST_STRIDE = 18.0
_KEPT_BYTES = 2**28


def _as_wave(prompt: tp.Any) -> torch.Tensor:
    """A prompt [B, C, T], [C, T] or [T] as float32 [B, C, T].

    Raises:
        UserError: it is no sound.
    """
    import numpy as np

    from ..data.audio_utils import MOST_CHANNELS, f32_pcm

    try:
        if not isinstance(prompt, torch.Tensor):
            prompt = torch.from_numpy(np.array(prompt))
        wav = f32_pcm(prompt).float()
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the prompt is no wave ({reason}); give samples [B, C, T] between -1 and 1") from error
    if not 1 <= wav.dim() <= 3 or wav.numel() == 0:
        raise UserError(f"a prompt must be [B, C, T] with some samples, this is {list(wav.shape)}; give other audio")
    wav = wav[(None,) * (3 - wav.dim())]
    if wav.shape[1] > max(MOST_CHANNELS, wav.shape[2]):
        raise UserError(f"a prompt must be [B, C, T], this looks like [T, C]: {list(prompt.shape)}; transpose it")
    return wav


def count_frames(seconds: float, frame_rate: float) -> int:
    """Whole codec frames in `seconds` (0.58 s at 50 Hz are 29 frames, although 0.58 * 50 is 28.999…)."""
    return int(seconds * frame_rate + 1e-6)


def check_match(lm: LMModel, compression_model: CompressionModel) -> None:
    """Refuse a codec whose tokens are not the ones the language model was trained on; use only the codebooks it knows.

    Raises:
        UserError: number of codebooks, cardinality or sample rate differ.
    """
    way_out = "use the codec that the model was trained with"
    if compression_model.total_codebooks < lm.num_codebooks:
        raise UserError(
            f"the model speaks {lm.num_codebooks} codebooks, "
            f"the codec has {compression_model.total_codebooks}; {way_out}"
        )
    if compression_model.cardinality != lm.card:
        raise UserError(
            f"the model speaks {lm.card} codes per codebook, the codec {compression_model.cardinality}; {way_out}"
        )
    cfg = getattr(lm, "cfg", None)
    rate = trained_rate(cfg) if cfg is not None else None
    if rate is not None and int(rate) != int(compression_model.sample_rate):
        raise UserError(
            f"the model was trained at {int(rate)} Hz, the codec runs at {compression_model.sample_rate} Hz; {way_out}"
        )
    if compression_model.num_codebooks != lm.num_codebooks:
        compression_model.set_num_codebooks(lm.num_codebooks)


class BaseGenModel(ABC):
    """A codec and a language model, and the settings that generating uses.

    Args:
        name: where the model came from, for people.
        compression_model: the codec.
        lm: the language model; where it has a `.cfg`, sample rate and segment length are read from it.
        max_duration: seconds the model can attend to at once; longer audio is made in overlapping windows. By
            default the segment length of the training, else 30 s.
    Raises:
        UserError: codec and language model do not match.
    """

    def __init__(
        self, name: str, compression_model: CompressionModel, lm: LMModel, max_duration: float | None = None
    ) -> None:
        fork_guard.check()
        check_match(lm, compression_model)
        self.name = name
        self.compression_model = compression_model.eval()
        self.lm = lm.eval()
        self.cfg = getattr(lm, "cfg", None)
        if max_duration is None:
            max_duration = (trained_reach(self.cfg) if self.cfg is not None else None) or DEFAULT_MAX_DURATION
        self.max_duration = max_duration
        self.device = next(iter(lm.parameters())).device
        self.duration = self.max_duration
        self.extend_stride: float | None = None
        # Where the weights came from ("model", "codec"), for those who write down what made a sound.
        self.files: dict[str, str] = {}
        self.generation_params: dict[str, tp.Any] = {}
        # The sampler's knobs that the model comes with; they count where nothing else is given.
        self.own_sampling, wrong = own_knobs(None if self.cfg is None else self.cfg.get("sampling"))
        for each in wrong:
            logger.warning("%s: in the model's config %s; it is left out", name, each)
        self._progress_callback: ProgressCallback | None = None
        self._playback: Playback | None = None
        self.set_generation_params()

    @property
    def frame_rate(self) -> float:
        """Codec frames per second."""
        return self.compression_model.frame_rate

    @property
    def sample_rate(self) -> int:
        """Sample rate of the generated audio, Hz."""
        return self.compression_model.sample_rate

    @property
    def audio_channels(self) -> int:
        """Channels of the generated audio."""
        return self.compression_model.channels

    def set_custom_progress_callback(self, progress_callback: ProgressCallback | None = None) -> None:
        """Have `progress_callback(frames done, frames in all)` called while generating with `progress=True`."""
        self._progress_callback = progress_callback

    @property
    def precision(self) -> str:
        """What the language model is played in."""
        return self._play.precision

    def set_precision(self, name: str) -> None:
        """Play in float32 (as after loading), int8 (CPU), bfloat16, float16 (GPU), or `auto`: the fastest that is
        nearly as good here. Training is not touched.

        Raises:
            UserError: there is no such precision on this device.
        """
        from .playback import Playback

        # Where the model was loaded for a GPU in less than float32, that is all that goes there.
        device = self.device if self.lm.device.type == "cpu" else self.lm.device
        self._playback = Playback(self.lm, self.compression_model, name, device)

    @property
    def _play(self) -> "Playback":
        if self._playback is None or not self._playback.is_of(self.lm, self.compression_model):
            self.set_precision("float32" if self._playback is None else self._playback.precision)
        assert self._playback is not None
        return self._playback

    @abstractmethod
    def set_generation_params(self, *args: tp.Any, **kwargs: tp.Any) -> None:
        """Set how to generate; see the model's own class."""

    @staticmethod
    @abstractmethod
    def get_pretrained(name: str, device: torch.device | str | None = None) -> "BaseGenModel":
        """Load a model by name."""

    def generate_unconditional(
        self, num_samples: int, progress: bool = False, return_tokens: bool = False, seed: int | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Generate from nothing.

        Args:
            num_samples: B, how many clips.
            progress: call the progress callback (or print a counter).
            return_tokens: return the codes too.
            seed: clip i uses seed + i, and in float32 and int8 comes out the same alone or in any batch; in bfloat16
                and float16, where sums of another order are others, only in one of this size. None draws one.
        Returns:
            wav [B, C, T] float32; with `return_tokens` also codes [B, K, F] int64.
        """
        if num_samples < 1:
            raise UserError(f"cannot make {num_samples} clips; ask for at least 1")
        return self._generate([None] * num_samples, None, progress, return_tokens, seed)

    def generate(
        self,
        descriptions: tp.Sequence[str | None],
        progress: bool = False,
        return_tokens: bool = False,
        seed: int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Generate one clip per description (B of them). Arguments and results as `generate_unconditional`.

        With texts, clip i of a seed is the same only in batches whose longest text has as many tokens.

        Raises:
            UserError: the model was trained without text and a description is not empty.
        """
        return self._generate(descriptions, None, progress, return_tokens, seed)

    def generate_continuation(
        self,
        prompt: "torch.Tensor | np.ndarray",
        prompt_sample_rate: int,
        descriptions: tp.Sequence[str | None] | None = None,
        progress: bool = False,
        return_tokens: bool = False,
        seed: int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Continue audio. The duration that was set counts from the start of the prompt, which is part of the result.

        Args:
            prompt: wav [B, C, T], [C, T] or [T]; floating point, or int16 or int32 at full scale.
            prompt_sample_rate: its rate, Hz; it is converted to the model's.
            descriptions: one per prompt, or None.
        Returns:
            As `generate_unconditional`; the prompt's part has gone through the codec.
        Raises:
            UserError: the prompt is empty, no sound, or not shorter than the duration.
        """
        codes = self._encode_prompt(prompt, prompt_sample_rate)
        if descriptions is None:
            descriptions = [None] * len(codes)
        return self._generate(descriptions, codes, progress, return_tokens, seed)

    def stream(
        self,
        num_samples: int = 1,
        descriptions: tp.Sequence[str | None] | None = None,
        prompt: "torch.Tensor | np.ndarray | None" = None,
        prompt_sample_rate: int | None = None,
        chunk: float = 1.0,
        progress: bool = False,
        seed: int | None = None,
    ) -> tp.Iterator[torch.Tensor]:
        """Generate, and give out sound while the rest is still being made; joined it is what `generate` gives.

        Args:
            num_samples: B, if neither descriptions nor a prompt say it.
            descriptions, prompt, prompt_sample_rate, progress, seed: as for `generate_continuation`.
            chunk: seconds per chunk; the first ones are shorter.
        Returns:
            An iterator over wav [B, C, t].
        Raises:
            UserError: as `generate_continuation`; or a codec that cannot be cut.
        """
        streamer, state = self.open_stream(num_samples, descriptions, prompt, prompt_sample_rate, chunk, seed)
        return streamer.chunks(state, self._reporter() if progress else None)

    def open_stream(
        self,
        num_samples: int = 1,
        descriptions: tp.Sequence[str | None] | None = None,
        prompt: "torch.Tensor | np.ndarray | None" = None,
        prompt_sample_rate: int | None = None,
        chunk: float = 1.0,
        seed: int | None = None,
    ) -> "tuple[Streamer, StreamState]":
        """What `stream` runs on, for those who want to hold the state: it can be copied, saved, resumed, and branched
        into many takes. `streamer.read(state)` gives the next chunk. Arguments as for `stream`.
        """
        if not 0 < chunk < float("inf"):
            raise UserError(f"chunks of {chunk:g} s do not work; give seconds above 0")
        codes = None
        if prompt is not None:
            rate = self.sample_rate if prompt_sample_rate is None else prompt_sample_rate
            codes = self._encode_prompt(prompt, rate)
            num_samples = len(codes)
        if descriptions is None:
            descriptions = [None] * num_samples
        songs, song = self._start_song(descriptions, codes, seed)
        streamer = self._play.streamer(songs, chunk)
        return streamer, streamer.start(song, codes)

    def _encode_prompt(self, prompt: "torch.Tensor | np.ndarray", sample_rate: int) -> torch.Tensor:
        """Codes [B, K, P] of a wav [B, C, T], [C, T] or [T]."""
        from ..data.audio_utils import convert_audio

        prompt = _as_wave(prompt)
        prompt = convert_audio(prompt, sample_rate, self.sample_rate, self.audio_channels)
        # Of a few samples at a high rate nothing may be left.
        prompt = F.pad(prompt, (0, max(0, 1 - prompt.shape[-1])))
        with torch.no_grad():
            codes, scale = self.compression_model.encode(prompt.to(self.compression_model.device))
        assert scale is None, "a codec that renormalises has no language model"
        return codes.to(self.device)

    def generate_audio(self, gen_tokens: torch.Tensor) -> torch.Tensor:
        """Decode codes [B, K, F] to wav [B, C, T]."""
        assert gen_tokens.dim() == 3, gen_tokens.shape
        return self._play.decode(gen_tokens)

    def _generate(
        self,
        descriptions: tp.Sequence[str | None],
        prompt: torch.Tensor | None,
        progress: bool,
        return_tokens: bool,
        seed: int | None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        self._play.check_size(len(descriptions), count_frames(self.duration, self.frame_rate))
        songs, state = self._start_song(descriptions, prompt, seed)
        parts = [] if prompt is None else [prompt]
        report = self._reporter() if progress else None
        while state.done < state.total:
            parts.append(songs.read(state, state.total, report))
        tokens = torch.cat(parts, dim=-1)
        songs.decoder.retire(state.window, most=_KEPT_BYTES)  # a large cache would be in the way while decoding
        wav = self.generate_audio(tokens)
        return (wav, tokens) if return_tokens else wav

    def _start_song(
        self, descriptions: tp.Sequence[str | None], prompt: torch.Tensor | None, seed: int | None
    ) -> "tuple[SongDecoder, SongState]":
        """Before the first code of the set duration; beyond the model's reach it takes windows that overlap by reach -
        stride."""
        from ..modules.sampling import SamplingParams

        count = len(descriptions)
        if prompt is not None and len(prompt) != count:
            raise UserError(f"{len(prompt)} prompts came with {count} descriptions; give as many of each")
        if count < 1:
            raise UserError(f"cannot make {count} clips; ask for at least 1")
        conditions = self._conditions(descriptions)
        total = count_frames(self.duration, self.frame_rate)
        if total < 1:
            raise UserError(f"{self.duration:g} s is less than one frame of {1 / self.frame_rate:g} s; ask for more")
        given = 0 if prompt is None else prompt.shape[-1]
        if given >= total:
            raise UserError(
                f"the prompt ({given / self.frame_rate:.2f} s) fills the whole duration "
                f"({self.duration:g} s); ask for a longer duration or give a shorter prompt"
            )
        window = max(1, count_frames(self.max_duration, self.frame_rate))
        params = dict(self.generation_params)
        cfg_coef, two_step_cfg = params.pop("cfg_coef"), params.pop("two_step_cfg")
        songs = self._play.songs(SamplingParams(**params), cfg_coef, window, self.stride_frames(window))
        return songs, songs.start(prompt, conditions, count, total, two_step_cfg, seed)

    def stride_frames(self, window: int) -> int:
        """Frames that each further window of `window` frames adds."""
        share = max(1, int(window * _STRIDE_SHARE))
        if self.extend_stride is None:
            return max(1, min(count_frames(_LONGEST_STRIDE, self.frame_rate), share))
        stride = count_frames(self.extend_stride, self.frame_rate)
        return stride if 0 < stride < window else share

    def _conditions(self, descriptions: tp.Sequence[str | None]) -> list[ConditioningAttributes]:
        """Attributes for the language model; none for one without conditioners, so that nothing is guided."""
        if not self.lm.condition_provider.conditioners:
            if any(descriptions):
                raise UserError("this model was trained without text; call generate_unconditional, or use a text model")
            return []
        return [ConditioningAttributes(text={"description": text}) for text in descriptions]

    def _reporter(self) -> ProgressCallback:
        """Counts frames that are complete."""

        def report(done: int, total: int) -> None:
            if self._progress_callback is not None:
                self._progress_callback(done, total)
            else:
                print(f"{done: 6d} / {total: 6d}", end="\r", file=sys.stderr, flush=True)

        return report
