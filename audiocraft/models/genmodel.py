"""What every generating model does: hold a codec and a language model that fit, turn tokens into sound."""

import sys
import typing as tp
from abc import ABC, abstractmethod

import torch

from ..errors import UserError
from ..modules.conditioners import ConditioningAttributes
from .encodec import CompressionModel
from .lm import LMModel

ProgressCallback = tp.Callable[[int, int], None]
DEFAULT_MAX_DURATION = 30.0
_STRIDE_SHARE = 0.6  # the peer's 18 s of 30 s
# Far enough apart that the seeds of clip i in window w never meet those of another clip or window.
_WINDOW_SEED_STRIDE = 1 << 40


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
    trained_rate = cfg.get("sample_rate") if cfg is not None else None
    if trained_rate is not None and int(trained_rate) != int(compression_model.sample_rate):
        raise UserError(
            f"the model was trained at {int(trained_rate)} Hz, "
            f"the codec runs at {compression_model.sample_rate} Hz; {way_out}"
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
        check_match(lm, compression_model)
        self.name = name
        self.compression_model = compression_model.eval()
        self.lm = lm.eval()
        self.cfg = getattr(lm, "cfg", None)
        if max_duration is None:
            segment = (self.cfg.get("dataset") or {}).get("segment_duration") if self.cfg is not None else None
            max_duration = float(segment or DEFAULT_MAX_DURATION)
        self.max_duration = max_duration
        self.device = next(iter(lm.parameters())).device
        self.duration = self.max_duration
        self.extend_stride = self.max_duration * _STRIDE_SHARE
        # Where the weights came from ("model", "codec"), for those who write down what made a sound.
        self.files: dict[str, str] = {}
        self.generation_params: dict[str, tp.Any] = {}
        self._progress_callback: ProgressCallback | None = None
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
            seed: clip i uses seed + i and comes out the same alone or in any batch; None draws one from torch.
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

        With texts, clip i of a seed is the same in all batches whose longest text has as many tokens.

        Raises:
            UserError: the model was trained without text and a description is not empty.
        """
        return self._generate(descriptions, None, progress, return_tokens, seed)

    def generate_continuation(
        self,
        prompt: torch.Tensor,
        prompt_sample_rate: int,
        descriptions: tp.Sequence[str | None] | None = None,
        progress: bool = False,
        return_tokens: bool = False,
        seed: int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Continue audio. The duration that was set counts from the start of the prompt, which is part of the result.

        Args:
            prompt: wav [B, C, T] or [C, T].
            prompt_sample_rate: its rate, Hz; it is converted to the model's.
            descriptions: one per prompt, or None.
        Returns:
            As `generate_unconditional`; the prompt's part has gone through the codec.
        Raises:
            UserError: the prompt is empty, or not shorter than the duration.
        """
        from ..data.audio_utils import convert_audio

        if prompt.dim() == 2:
            prompt = prompt[None]
        if prompt.dim() != 3 or prompt.shape[-1] == 0:
            raise UserError(
                f"a prompt must be [B, C, T] with some samples, this is {list(prompt.shape)}; give other audio"
            )
        if descriptions is None:
            descriptions = [None] * len(prompt)
        if len(descriptions) != len(prompt):
            raise UserError(f"{len(prompt)} prompts came with {len(descriptions)} descriptions; give as many of each")
        prompt = convert_audio(prompt, prompt_sample_rate, self.sample_rate, self.audio_channels)
        with torch.no_grad():
            codes, scale = self.compression_model.encode(prompt.to(self.device))
        assert scale is None, "a codec that renormalises has no language model"
        return self._generate(descriptions, codes, progress, return_tokens, seed)

    def generate_audio(self, gen_tokens: torch.Tensor) -> torch.Tensor:
        """Decode codes [B, K, F] to wav [B, C, T]."""
        assert gen_tokens.dim() == 3, gen_tokens.shape
        with torch.no_grad():
            return self.compression_model.decode(gen_tokens, None)

    def _generate(
        self,
        descriptions: tp.Sequence[str | None],
        prompt: torch.Tensor | None,
        progress: bool,
        return_tokens: bool,
        seed: int | None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        tokens = self._generate_tokens(self._conditions(descriptions), len(descriptions), prompt, progress, seed)
        wav = self.generate_audio(tokens)
        return (wav, tokens) if return_tokens else wav

    def _conditions(self, descriptions: tp.Sequence[str | None]) -> list[ConditioningAttributes]:
        """Attributes for the language model; none for one without conditioners, so that nothing is guided."""
        if not self.lm.condition_provider.conditioners:
            if any(descriptions):
                raise UserError("this model was trained without text; call generate_unconditional, or use a text model")
            return []
        return [ConditioningAttributes(text={"description": text}) for text in descriptions]

    def _generate_tokens(
        self,
        conditions: list[ConditioningAttributes],
        num_samples: int,
        prompt: torch.Tensor | None,
        progress: bool,
        seed: int | None,
    ) -> torch.Tensor:
        """Codes [B, K, F] of the set duration; beyond the model's reach, in windows that overlap by reach - stride."""
        total = count_frames(self.duration, self.frame_rate)
        window = min(count_frames(self.max_duration, self.frame_rate), total)
        if total < 1:
            raise UserError(f"{self.duration:g} s is less than one frame of {1 / self.frame_rate:g} s; ask for more")
        if prompt is None:
            prompt = torch.zeros(num_samples, self.lm.num_codebooks, 0, dtype=torch.long, device=self.device)
        if prompt.shape[-1] >= total:
            raise UserError(
                f"the prompt ({prompt.shape[-1] / self.frame_rate:.2f} s) fills the whole duration "
                f"({self.duration:g} s); ask for a longer duration or give a shorter prompt"
            )
        stride = count_frames(self.extend_stride, self.frame_rate)
        stride = stride if 0 < stride < window else max(1, int(window * _STRIDE_SHARE))
        if seed is None:
            seed = int(torch.randint(1 << 31, ()))
        tokens, started, windows = prompt, prompt.shape[-1], 0
        while (done := tokens.shape[-1]) < total:
            # A full window leaves its last window - stride frames for the next one to continue.
            context = tokens if done < window else tokens[..., done - (window - stride) :]
            length = min(window, total - done + context.shape[-1])
            added = length - context.shape[-1]
            with torch.no_grad():
                out = self.lm.generate(
                    context if context.shape[-1] else None,
                    conditions,
                    num_samples=None if conditions or context.shape[-1] else num_samples,
                    max_gen_len=length,
                    callback=self._reporter(done - started, added, total - started) if progress else None,
                    seed=seed + windows * _WINDOW_SEED_STRIDE,
                    **self.generation_params,
                )
            tokens = torch.cat([tokens, out[..., context.shape[-1] :]], dim=-1)
            windows += 1
        assert tokens.shape[-1] == total, (tokens.shape, total)
        return tokens

    def _reporter(self, before: int, added: int, total: int) -> ProgressCallback:
        """Counts frames; a window of some frames takes a few more steps, for the delays between codebooks."""

        def report(step: int, steps: int) -> None:
            now = before + added * step // steps
            if self._progress_callback is not None:
                self._progress_callback(now, total)
            else:
                print(f"{now: 6d} / {total: 6d}", end="\r", file=sys.stderr, flush=True)

        return report
