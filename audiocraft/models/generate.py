"""Codes one step at a time. All that lives between steps is a `DecoderState`: it can be copied, saved and resumed."""

import math
import os
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import UserError
from ..modules.attributes import ConditioningAttributes, drop_all_conditions
from ..modules.codebooks_patterns import Pattern
from ..modules.conditioners import FusedConditions
from ..modules.sampling import SamplingParams, choose, clip_uniforms, penalise_recent
from ..utils.device import fork_guard
from .fast import FastLM
from .graphs import graphs_wanted, run_step
from .lm import LMModel
from .state import NO_CODE, UNKNOWN, Branch, DecoderState

__all__ = ["DecoderState", "TokenDecoder"]

_SPAN_STEPS = 256
# For activations, sampling and the codec's blocks, whatever the batch.
_MARGIN = 2**29


class TokenDecoder:
    """Draws codes from a language model; holds no state of its own.

    Every pattern of codebooks is a sequence of steps, and each step reads the one before it and fills in its own: the
    delays are where the codes are written, nothing is shifted while it runs.

    Args:
        lm: in evaluation mode; or made ready to play, by those who generate more than once.
        params: how a token is chosen.
        cfg_coef: coefficient of classifier-free guidance; None is the model's, 1 is no guidance.
        precision: see `resolve_precision`; None is that of autocast where it is on, else the model's own. Not looked at
            if `lm` is ready already.
        graphs: whether steps are recorded as CUDA graphs; None unless `AUDIOCRAFT_CUDA_GRAPHS=0` is set. On other
            devices there are none.
        spans: attend to whole spans of the cache under a mask, as graphs need it; None on CUDA only. What is drawn is
            the same up to float rounding.
    """

    def __init__(
        self,
        lm: LMModel | FastLM,
        params: SamplingParams,
        cfg_coef: float | None = None,
        precision: str | None = None,
        graphs: bool | None = None,
        spans: bool | None = None,
    ) -> None:
        self.playing = lm if isinstance(lm, FastLM) else FastLM(lm, precision or _own_precision(lm))
        self.params = params
        self.cfg_coef = self.playing.cfg_coef if cfg_coef is None else cfg_coef
        self.graphs = graphs_wanted(graphs, self.playing.device)
        self.spans = self.playing.device.type == "cuda" if spans is None else spans

    @torch.no_grad()
    def start(
        self,
        prompt: Tensor | None = None,
        conditions: Sequence[ConditioningAttributes] = (),
        num_samples: int | None = None,
        frames: int = 256,
        two_step_cfg: bool = False,
        seed: int | Sequence[int] | None = None,
        fused: Sequence[FusedConditions] | None = None,
    ) -> DecoderState:
        """The state before the first code after the prompt, arguments as for `LMModel.generate`.

        Args:
            seed: one for the batch, or one for each clip.
            fused: conditions of an earlier state's branches, in place of `conditions`; needs `num_samples`.

        Raises:
            UserError: sizes that do not fit each other, prompt codes that do not exist, or too little memory.
        """
        fork_guard.check()
        lm = self.playing
        batch = self._batch_size(prompt, conditions, num_samples)
        if frames < 1:
            raise UserError(f"asked for {frames} frames; ask for one or more")
        codes = torch.full((batch, lm.n_q, frames), UNKNOWN, device=lm.device)
        prompt_frames = 0
        if prompt is not None:
            self._check_prompt(prompt, frames)
            prompt_frames = prompt.shape[-1]
            codes[..., :prompt_frames] = prompt.to(lm.device)
        pattern = lm.pattern_provider.get_pattern(frames)
        sequence, _, _ = pattern.build_pattern_sequence(codes, lm.special_token_id)
        step = pattern.get_first_step_with_timesteps(prompt_frames)
        assert step is not None and step > 0
        uniforms = None
        if not self.params.greedy:
            seed = int(torch.randint(2**31, ())) if seed is None else seed
            uniforms = clip_uniforms(seed, batch, sequence.shape[-1], lm.n_q).to(lm.device)
        drawn = (pattern.frame_of >= prompt_frames).to(lm.device)
        at = torch.tensor([step], device=lm.device)
        with self._plain():
            if fused is None:
                fused = self._fuse(batch, conditions, two_step_cfg)
            state = DecoderState(sequence, drawn, at, step, frames, prompt_frames, uniforms, [])
            spare: DecoderState | None = lm.spare.pop("state", None)
            if spare is not None and spare.begin_anew(state, fused):
                state = spare
            else:
                state.branches = self._branches(batch, fused, sequence.shape[-1])
            self._read(state)
            if self.spans:
                for branch in state.branches:
                    lm.transformer.place(branch.cache)
        return state

    @torch.no_grad()
    def step(self, state: DecoderState) -> None:
        """Draw the codes of one step and write them into the state. Nothing of it waits for a GPU.

        Raises:
            UserError: in a forked process that would hang.
        """
        fork_guard.check()
        spans = []
        for branch in state.branches:
            cache = branch.cache
            # Few lengths, so that few graphs are recorded.
            span = min(cache.capacity, -(-(cache.length + 1) // _SPAN_STEPS) * _SPAN_STEPS)
            cache.span = span if self.spans else None
            spans.append(cache.span)
            if self.spans:
                self.playing.transformer.place(cache)  # there is one, but for states read from a file
        with self._plain():
            if self.graphs:
                run_step(state, (self.params, self.cfg_coef, *spans), lambda: self._draw(state))
            else:
                self._draw(state)
        state.step += 1
        for branch in state.branches:
            if branch.cache.span is not None:
                branch.cache.length += 1
                branch.cache.span = None

    def retire(self, state: DecoderState, most: float = math.inf) -> None:
        """Let go of a state that nobody steps any more: to the next one of its shape, which is spared the recording,
        where there are graphs and it takes `most` bytes at most, else to the device."""
        if state.graphs and sum(branch.cache.bytes for branch in state.branches) <= most:
            self.playing.spare["state"] = state
        else:
            state.branches.clear()
            state.graphs.clear()

    def codes(self, state: DecoderState) -> Tensor:
        """Codes [B, K, F] of the sequence; `UNKNOWN` where they are not drawn yet.

        Raises:
            UserError: the model computed NaN or infinities.
        """
        codes = self._pattern(state).revert_pattern_sequence(state.sequence, UNKNOWN)[0]
        if (codes == NO_CODE).any():
            raise UserError(
                "the model computes no numbers any more (NaN); try --precision float32, or another model: its weights "
                "are damaged, or training diverged"
            )
        return codes

    def complete_frames(self, state: DecoderState) -> int:
        """Frames from the start of which all codes are there, the prompt's included."""
        return _complete(self._pattern(state))[state.step]

    def _pattern(self, state: DecoderState) -> Pattern:
        return self.playing.pattern_provider.get_pattern(state.frames)

    def _draw(self, state: DecoderState) -> None:
        """The step itself: a function of the state's tensors, written back to them."""
        codes = state.sequence.index_select(2, state.at - 1).clamp_(min=0)  # NO_CODE has no embedding
        logits = self._logits(state, codes)
        uniforms = None if state.uniforms is None else state.uniforms.index_select(1, state.at)[:, 0]
        if self.params.repetition:
            logits = penalise_recent(logits, state.sequence, state.at, self.params.repetition)
        # Not looked at here, where a GPU would be waited for, but when codes are read.
        new = choose(logits, uniforms, self.params).where(logits.float().sum(-1).isfinite(), NO_CODE)
        held = state.sequence.index_select(2, state.at)[..., 0]
        drawn = state.drawn.index_select(1, state.at)[:, 0]
        state.sequence.index_copy_(2, state.at, torch.where(drawn, new, held)[..., None])
        state.at.add_(1)

    def _logits(self, state: DecoderState, codes: Tensor) -> Tensor:
        """Logits [B, K, card] of what follows the step of these codes [B, K, 1]."""
        lm = self.playing
        hidden = [self._hidden(branch, codes) for branch in state.branches]
        logits = torch.cat([lm.logits(h[:, -1]) for h in hidden])
        if logits.shape[0] == state.batch:
            return logits
        conditional, unconditional = logits.split(state.batch)
        return unconditional + (conditional - unconditional) * self.cfg_coef

    def _hidden(self, branch: Branch, codes: Tensor, first: bool = False) -> Tensor:
        copies = branch.cache.keys.shape[1] // codes.shape[0]  # conditional and unconditional clips get the same codes
        return self.playing.hidden(codes.repeat(copies, 1, 1), branch.fused, branch.cache, first)

    def _read(self, state: DecoderState) -> None:
        """Read what comes before the last step that is known: the prefix of the conditions and the prompt."""
        known = state.sequence[..., : state.step - 1]
        for branch in state.branches:
            if known.shape[-1] or branch.fused.prefix_length:
                self._hidden(branch, known, first=True)

    def _fuse(
        self, batch: int, conditions: Sequence[ConditioningAttributes], two_step_cfg: bool
    ) -> list[FusedConditions]:
        """Conditions of each branch."""
        samples = list(conditions) or [ConditioningAttributes()] * batch
        groups = [samples]
        guided = self.playing.guidable and self.cfg_coef != 1.0
        if guided and any(text for sample in samples for text in sample.text.values()):
            unconditional = [drop_all_conditions(sample) for sample in samples]
            groups = [samples, unconditional] if two_step_cfg else [samples + unconditional]
        return [self.playing.conditions(group) for group in groups]

    def _branches(self, batch: int, fused: Sequence[FusedConditions], steps: int) -> list[Branch]:
        # The last step is drawn but never read.
        rooms = [each.prefix_length + steps - 1 for each in fused]
        rows = [next((x.shape[0] for x in vars(each).values() if x is not None), batch) for each in fused]
        need = sum(self.playing.cache_bytes(room) * count for room, count in zip(rooms, rows))
        check_room(self.playing.device, need // batch, batch)
        return [Branch(self.playing.make_cache(*size), each) for *size, each in zip(rows, rooms, fused)]

    def _plain(self) -> torch.autocast:
        """The layers have the dtype they are meant to have already."""
        return torch.autocast(self.playing.device.type, enabled=False)

    def _check_prompt(self, prompt: Tensor, frames: int) -> None:
        lm = self.playing
        if prompt.dim() != 3 or prompt.shape[1] != lm.n_q:
            raise UserError(f"a prompt must be codes [B, {lm.n_q}, frames], got {list(prompt.shape)}")
        if prompt.shape[-1] >= frames:
            raise UserError(f"the prompt has {prompt.shape[-1]} frames of {frames} to generate; ask for more or cut it")
        if prompt.numel() and not 0 <= int(prompt.min()) <= int(prompt.max()) < lm.card:
            raise UserError(f"the prompt has codes outside 0..{lm.card - 1}; encode it with the codec of this model")

    @staticmethod
    def _batch_size(
        prompt: Tensor | None, conditions: Sequence[ConditioningAttributes], num_samples: int | None
    ) -> int:
        sizes = {
            "num_samples": num_samples,
            "prompt": None if prompt is None else prompt.shape[0],
            "conditions": len(conditions) or None,
        }
        given = {name: size for name, size in sizes.items() if size is not None}
        if len(set(given.values())) > 1:
            told = ", ".join(f"{name} {size}" for name, size in given.items())
            raise UserError(f"the number of clips is not clear ({told}); give as many of each")
        batch = next(iter(given.values()), 1)
        if batch < 1:
            raise UserError(f"asked for {batch} clips; ask for one or more")
        return batch


@lru_cache(maxsize=16)
def _complete(pattern: Pattern) -> list[int]:
    """Frames that are complete before each step, and after the last."""
    held_until = pattern.step_of.amax(dim=0).cummax(dim=0).values
    steps = torch.arange(pattern.frame_of.shape[1] + 1)
    return torch.searchsorted(held_until, steps).tolist()


def _own_precision(lm: LMModel) -> str:
    device = lm.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else lm.dtype
    return str(dtype).removeprefix("torch.")


def check_room(device: torch.device, bytes_per_clip: int, batch: int) -> None:
    """See whether the caches of `batch` clips fit into what is free on a CUDA device.

    Raises:
        UserError: they do not; it says how many would.
    """
    if device.type != "cuda":
        return
    free = torch.cuda.mem_get_info(device)[0]
    # What torch holds and does not use at the moment is free too.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    fit = max(0, (free - _MARGIN) // max(1, bytes_per_clip))
    if batch > fit:
        way_out = f"the largest batch that fits is {fit}" if fit else "ask for a shorter duration, or use device=cpu"
        raise UserError(
            f"{batch} clips at once need {batch * bytes_per_clip / 2**30:.1f} GiB beside the model and {device} has "
            f"{max(0, free) / 2**30:.1f} GiB free; {way_out}"
        )


def check_result(num_bytes: int) -> None:
    """See whether sound of this size can be held in memory as a whole, with room to write it.

    Raises:
        UserError: it cannot.
    """
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not told on this system
        return
    if 2 * num_bytes > memory:
        raise UserError(
            f"the sound alone would take {num_bytes / 2**30:.0f} GiB of {memory / 2**30:.0f} GiB of memory; ask for "
            "less, or stream it: python -m audiocraft stream MODEL"
        )
