"""The generate stage of a language model: clips from nothing and from the beginnings of real ones."""

import json
import math
import time
import typing as tp
from abc import abstractmethod

import torch
from flashy import distrib
from torch import Tensor

from .. import __version__
from ..errors import UserError
from ..models.codec import CompressionModel
from ..models.lm import LMModel
from ..modules.conditioners import ConditioningAttributes
from ..utils.files import atomic_path
from .base import StandardSolver

# Seeds of different processes lie this far apart.
PROCESS_SEEDS = 1_000_000
# By which the time of the stage is foretold; the first are for warming up.
_TRIED_FRAMES = (4, 4, 28)
SAMPLING_KEYS = ("use_sampling", "temp", "top_k", "top_p")
KINDS = {"free": "unprompted_samples", "prompted": "prompted_samples", "reference": "gen_gt_samples"}


class GenerateStage(StandardSolver):
    """Writes samples into `samples/EPOCH` of the run's folder, each with a JSON that says what made it.

    Names: `NNN_free`, `NNN_prompted` (begins with real audio, which its JSON names) and `NNN_reference` (that segment
    itself, coded and decoded). Clip NNN has the same seed in every epoch, so that epochs can be compared.
    """

    model: LMModel
    compression_model: CompressionModel

    @abstractmethod
    def get_tokens(self, batch: tuple[Tensor, tp.Sequence[tp.Any]]) -> tuple[Tensor, Tensor]:
        """Codes int64 [B, K, F] of a batch, and which frames are audio throughout, bool [B, F]."""

    @abstractmethod
    def get_attributes(self, infos: tp.Sequence[tp.Any]) -> list[ConditioningAttributes]:
        """What each clip of a batch is conditioned on; empty for a model without conditioners."""

    def generate(self) -> dict:
        """The stage; returns how many samples were written."""
        cfg = self.cfg.generate.lm
        duration, prompt_duration = self._durations()
        kinds = [kind for kind, key in KINDS.items() if cfg[key]]
        settings = {key: cfg[key] for key in SAMPLING_KEYS}
        loader = self.dataloaders["generate"]
        # One unit of progress is a hundredth of a batch of one kind.
        ticks = iter(self.log_progress("generate", range(100 * len(kinds) * len(loader))))
        first = written = 0
        for batch in self.fetch(loader):
            for kind in kinds:
                if kind == "reference":
                    self.check_stop()
                    out = self._decode_reference(batch, duration)
                else:
                    out = self.run_generate_step(
                        batch,
                        duration,
                        prompt_duration if kind == "prompted" else None,
                        cfg.remove_prompts,
                        seed=self._seed(first),
                        callback=self._reporter(ticks),
                        **settings,
                    )
                for i, wav in enumerate(out["gen_wav"]):
                    facts = self._facts(kind, batch[1][i], out["prompt_frames"][i])
                    facts |= {} if kind == "reference" else {"seed": self._seed(first + i), "settings": settings}
                    self._write(f"{first + i:03d}_{kind}", wav, facts)
                written += len(out["gen_wav"])
            first += len(batch[1])
        for _ in ticks:  # to its end
            pass
        return {"samples": written}

    def stage_seconds(self, stage: str, step_seconds: float) -> float:
        """As for all solvers; how long it takes to generate is tried out on a few frames."""
        if stage != "generate":
            return super().stage_seconds(stage, step_seconds)
        cfg = self.cfg.generate.lm
        loader = self.dataloaders["generate"]
        clips = min(loader.batch_size or 1, len(loader.dataset))  # type: ignore[arg-type]
        training = self.model.training
        times = []
        for frames in _TRIED_FRAMES:
            begin = time.monotonic()
            with torch.no_grad():
                codes = self.model.eval().generate(num_samples=clips, max_gen_len=frames, seed=0)
                self._decode(codes).sum().item()  # a GPU is waited for
            times.append(time.monotonic() - begin)
        self.model.train(training)
        # The difference leaves out what is done once a clip.
        per_frame = max(0.0, times[-1] - times[-2]) / (_TRIED_FRAMES[-1] - _TRIED_FRAMES[-2])
        frames = math.ceil(self._durations()[0] * self.compression_model.frame_rate)
        kinds = sum(bool(cfg[KINDS[kind]]) for kind in ("free", "prompted"))
        return per_frame * frames * kinds * len(loader)

    def run_generate_step(
        self,
        batch: tuple[Tensor, tp.Sequence[tp.Any]],
        gen_duration: float,
        prompt_duration: float | None = None,
        remove_prompt: bool = False,
        **generation_params: tp.Any,
    ) -> dict[str, tp.Any]:
        """Generate one clip per item of a batch.

        Args:
            batch: waves [B, C, T] or codes [B, K, F], and infos.
            gen_duration: length of the clips in seconds, prompt included.
            prompt_duration: seconds of each item to begin with, less where the item is padding; None for nothing.
            remove_prompt: leave the prompt out of the wave.
            generation_params: for `LMModel.generate`; `seed` is that of the first item, the next have the next ones.

        Returns:
            `gen_wav` (list of B waves [C, T]), `gen_tokens` [B, K, F] and `prompt_frames` (list of B numbers).
        """
        codec, rate = self.compression_model, self.compression_model.frame_rate
        frames = max(1, int(gen_duration * rate))
        count = len(batch[1])
        attributes = self.get_attributes(batch[1])
        tokens, prompt_frames = None, [0] * count
        if prompt_duration:
            tokens, audio = self.get_tokens(batch)
            prompt_frames = audio[:, : int(prompt_duration * rate)].sum(dim=1).tolist()
        params = {"max_gen_len": frames, **generation_params}
        if len(set(prompt_frames)) == 1:
            prompt = tokens[..., : prompt_frames[0]] if tokens is not None and prompt_frames[0] else None
            codes = self.model.generate(prompt, attributes, num_samples=None if attributes else count, **params)
        else:
            codes = self._one_by_one(tokens, prompt_frames, attributes, **params)
        wav = self._decode(codes)
        starts = [n * codec.hop_length if remove_prompt else 0 for n in prompt_frames]
        return {
            "gen_wav": [item[:, start:] for item, start in zip(wav, starts)],
            "gen_tokens": codes,
            "prompt_frames": prompt_frames,
        }

    def _one_by_one(
        self,
        tokens: tp.Any,
        prompt_frames: list[int],
        attributes: list[ConditioningAttributes],
        seed: int | None = None,
        callback: tp.Callable[[int, int], None] | None = None,
        **params: tp.Any,
    ) -> Tensor:
        """Codes [B, K, F] from prompts of different lengths; the same as if they had been generated together."""
        out: list[Tensor] = []
        count = len(prompt_frames)

        def report(step: int, steps: int) -> None:
            assert callback is not None
            callback(len(out) * steps + step, count * steps)

        for i, length in enumerate(prompt_frames):
            prompt = tokens[i : i + 1, :, :length] if length else None
            own = None if seed is None else seed + i
            told = None if callback is None else report
            out.append(self.model.generate(prompt, attributes[i : i + 1], seed=own, callback=told, **params))
        return torch.cat(out)

    def _decode_reference(self, batch: tuple[Tensor, tp.Sequence[tp.Any]], duration: float) -> dict[str, tp.Any]:
        """The segments of a batch themselves, coded and decoded, without their padding."""
        codec = self.compression_model
        tokens, audio = self.get_tokens(batch)
        lengths = audio[:, : int(duration * codec.frame_rate)].sum(dim=1).tolist()
        nothing = torch.zeros(codec.channels, codec.hop_length)
        waves = [self._decode(item[None, :, :n])[0] if n else nothing for item, n in zip(tokens, lengths)]
        return {"gen_wav": waves, "prompt_frames": lengths}

    def _decode(self, codes: Tensor) -> Tensor:
        """Codes [B, K, F] → wav [B, C, T], where the codec is."""
        return self.compression_model.decode(codes.to(self.compression_model.device))

    def _durations(self) -> tuple[float, float]:
        """Seconds of a clip and of its prompt; by default this is a quarter of the clip or of the segment it is cut
        from, whichever is shorter.

        Raises:
            UserError: one is missing, or they do not fit together.
        """
        cfg = self.cfg
        segment = cfg.dataset.generate.get("segment_duration") or cfg.dataset.segment_duration
        total, prompt = cfg.generate.lm.gen_duration or segment, cfg.generate.lm.prompt_duration
        if total is None:
            raise UserError("the generate stage does not know how long its samples are; set generate.lm.gen_duration")
        prompt = min(total, segment or total) / 4 if prompt is None else prompt
        if cfg.generate.lm.prompted_samples and not 0 < prompt < total:
            raise UserError(
                f"generate.lm.prompt_duration={prompt:g} s leaves nothing to begin with or to generate in clips of "
                f"{total:g} s; set it below generate.lm.gen_duration, or generate.lm.prompted_samples=false"
            )
        return total, prompt

    def _seed(self, index: int) -> int:
        return self.cfg.seed + PROCESS_SEEDS * distrib.rank() + index

    def _reporter(self, ticks: tp.Iterator[int]) -> tp.Callable[[int, int], None]:
        """A callback that moves the progress by a hundred units in all, and stops where the user asked to."""
        done = 0

        def report(step: int, steps: int) -> None:
            nonlocal done
            self.check_stop()
            while done < 100 * step // max(1, steps):
                next(ticks, None)
                done += 1

        return report

    # Files.

    def _facts(self, kind: str, info: tp.Any, prompt_frames: int) -> dict[str, tp.Any]:
        """What a sample's JSON says."""
        seconds = prompt_frames / self.compression_model.frame_rate
        prompt = {"file": str(info.meta.path), "seek_time": info.seek_time, "duration": seconds}
        texts = [item.text for item in self.get_attributes([info])]
        facts = {
            "kind": kind,
            "epoch": self._trained_epochs,
            "run": self.xp.sig,
            "weights": "ema" if self.ema is not None and self.ema.count else "model",
            "codec": self.cfg.compression_model_checkpoint,
            "version": __version__,
        }
        if kind == "reference":
            facts["segment"] = prompt
        elif seconds:
            facts["prompt"] = {**prompt, "removed": self.cfg.generate.lm.remove_prompts}
        return facts | ({"text": texts[0]} if texts else {})

    def _write(self, name: str, wav: Tensor, facts: dict[str, tp.Any]) -> None:
        """Sound and JSON of one sample."""
        if distrib.is_distributed():
            name = f"{distrib.rank()}_{name}"
        path, wav, rate = self.write_sound(name, wav)
        facts = {"file": path.name, **facts, "seconds": wav.shape[-1] / rate, "sample_rate": rate}
        with atomic_path(path.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        # Flashy's own log of sounds in the run's folder would need torchaudio, and the file is there already.
        tensorboard = self.result_logger._experiment_loggers.get("tensorboard")
        if tensorboard is not None:
            tensorboard.log_audio("generate", name, wav, rate, self.epoch)
