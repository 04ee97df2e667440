"""Codes of any length: windows of what the model can attend to, each continuing the end of the one before."""

import typing as tp
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..modules.attributes import ConditioningAttributes
from ..utils.rng import as_seed
from .generate import TokenDecoder
from .state import DecoderState

# Far enough apart that the seeds of clip i in window w never meet those of another clip or window.
_WINDOW_SEED_STRIDE = 1 << 40
Progress = tp.Callable[[int, int], None]


@dataclass
class SongState:
    """Everything between two steps of B pieces.

    Attributes:
        window: the window in progress.
        taken: frames of the window that were given out, its context included.
        done: frames given out of all windows, a prompt included.
        first: frames of the prompt.
        total: frames there will be.
        seeds: one per clip.
        index: windows before this one.
    """

    window: DecoderState
    taken: int
    done: int
    first: int
    total: int
    seeds: list[int]
    index: int = 0

    def clone(self) -> "SongState":
        """A copy that goes on by itself."""
        return replace(self, window=self.window.clone())

    def take(self, clips: Sequence[int], seed: int | None = None) -> "SongState":
        """A copy of the clips with these numbers, any of them as often as wanted: many takes from one moment.

        Args:
            clips: numbers from 0 to B - 1.
            seed: clip i of the copy goes on with the seed `seed` + i; None lets each go on with its own.
        """
        seeds = [self.seeds[c] for c in clips] if seed is None else [as_seed(seed) + i for i in range(len(clips))]
        window_seeds = None if seed is None else _window_seeds(seeds, self.index)
        return replace(self, window=self.window.take(clips, window_seeds), seeds=seeds)

    def to_dict(self) -> dict[str, Any]:
        """Tensors, numbers, lists and dicts only: `torch.save` it, read it with `weights_only=True`."""
        return {**vars(self), "window": self.window.to_dict(), "seeds": list(self.seeds)}

    @classmethod
    def from_dict(cls, saved: dict[str, Any], device: torch.device | str = "cpu") -> "SongState":
        """The inverse of `to_dict`, on `device`."""
        return cls(**{**saved, "window": DecoderState.from_dict(saved["window"], device)})


class SongDecoder:
    """Draws codes beyond the model's reach, in memory that does not grow with them; holds no state of its own.

    Args:
        decoder: draws the windows.
        window: frames of a window.
        stride: frames that each further window adds; the rest of it is context. Below `window`.
    """

    def __init__(self, decoder: TokenDecoder, window: int, stride: int) -> None:
        assert 0 < stride < window or window == stride == 1, (window, stride)
        self.decoder = decoder
        self.window = window
        self.stride = stride

    def start(
        self,
        prompt: Tensor | None,
        conditions: Sequence[ConditioningAttributes],
        num_samples: int,
        total: int,
        two_step_cfg: bool = False,
        seed: int | None = None,
    ) -> SongState:
        """The state before the first new code.

        Args:
            prompt: codes [B, K, P], P < total, or None.
            total: frames there will be, the prompt included.
        Raises:
            UserError: as `TokenDecoder.start`.
        """
        seed = as_seed(torch.randint(1 << 31, ()) if seed is None else seed)
        seeds = [seed + i for i in range(num_samples)]
        given = 0 if prompt is None else prompt.shape[-1]
        context = (
            prompt if given < self.window or prompt is None else prompt[..., given - (self.window - self.stride) :]
        )
        kept = 0 if context is None else context.shape[-1]
        window = self.decoder.start(
            context if kept else None,
            conditions,
            num_samples=num_samples,
            frames=min(self.window, total - given + kept),
            two_step_cfg=two_step_cfg,
            seed=seeds,
        )
        return SongState(window, taken=kept, done=given, first=given, total=total, seeds=seeds)

    def read(self, state: SongState, frames: int, progress: Progress | None = None) -> Tensor:
        """Draw until there are `frames` new frames, or the window or the piece ends.

        Args:
            progress: called after each step with the new frames that are complete and those there will be.
        Returns:
            codes [B, K, f], f <= `frames`; 0 at the end of the piece only.
        """
        decoder = self.decoder
        if state.done < state.total and state.taken == state.window.frames:
            self._next_window(state)
        window = state.window
        goal = min(state.taken + frames, window.frames)
        while (ready := decoder.complete_frames(window)) < goal:
            decoder.step(window)
            if progress is not None:
                complete = max(0, decoder.complete_frames(window) - state.taken)
                progress(state.done - state.first + complete, state.total - state.first)
        ready = min(ready, goal)
        codes = decoder.codes(window)[..., state.taken : ready]
        state.done += ready - state.taken
        state.taken = ready
        return codes

    def _next_window(self, state: SongState) -> None:
        old = state.window
        context = self.decoder.codes(old)[..., self.stride + old.frames - self.window :]
        fused = [branch.fused for branch in old.branches]
        self.decoder.retire(old)  # two caches at once would be the most memory this ever needs
        state.index += 1
        kept = context.shape[-1]
        state.window = self.decoder.start(
            context if kept else None,
            num_samples=old.batch,
            frames=min(self.window, state.total - state.done + kept),
            seed=_window_seeds(state.seeds, state.index),
            fused=fused,
        )
        state.taken = kept


def _window_seeds(seeds: Sequence[int], index: int) -> list[int]:
    return [seed + index * _WINDOW_SEED_STRIDE for seed in seeds]
