"""Codes one step at a time. All that lives between steps is a `DecoderState`: it can be copied, saved and resumed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import UserError
from ..modules.attributes import ConditioningAttributes, drop_all_conditions
from ..modules.conditioners import FusedConditions
from ..modules.kv_cache import KVCache
from ..modules.sampling import SamplingParams, choose, clip_uniforms

if TYPE_CHECKING:
    from ..models.lm import LMModel

UNKNOWN = -1  # a place of the sequence whose code is not drawn yet


@dataclass
class Branch:
    """One pass through the transformer per step: a cache and the conditions it runs under.

    Without guidance there is one for all clips. With guidance one holds conditional clips first, then the same clips
    unconditional; or (two-step) there are two of them in this order.
    """

    cache: KVCache
    fused: FusedConditions

    def clone(self) -> "Branch":
        """A copy that goes on by itself."""
        # Conditions are never written to.
        return Branch(self.cache.clone(), self.fused)


@dataclass
class DecoderState:
    """Everything between two steps.

    Attributes:
        sequence: steps of the pattern [B, K, S]: drawn codes, prompt codes ahead, special tokens, or `UNKNOWN`.
        step: the next step to draw; those before it are complete.
        frames: F.
        prompt_frames: those at the start that are not drawn.
        uniforms: one number per clip, step and codebook, float32 [B, S, K]; None when greedy.
        branches: see `Branch`.
    """

    sequence: Tensor
    step: int
    frames: int
    prompt_frames: int
    uniforms: Tensor | None
    branches: list[Branch]

    @property
    def num_steps(self) -> int:
        """S."""
        return self.sequence.shape[-1]

    def clone(self) -> "DecoderState":
        """A copy that goes on by itself."""
        branches = [branch.clone() for branch in self.branches]
        return replace(self, sequence=self.sequence.clone(), branches=branches)

    def to_dict(self) -> dict[str, Any]:
        """Tensors, numbers, lists and dicts only: `torch.save` it, read it with `weights_only=True`."""
        return {
            "sequence": self.sequence.clone(),
            "step": self.step,
            "frames": self.frames,
            "prompt_frames": self.prompt_frames,
            "uniforms": self.uniforms,
            "branches": [{"cache": b.cache.to_dict(), "fused": dict(vars(b.fused))} for b in self.branches],
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any], device: torch.device | str = "cpu") -> "DecoderState":
        """The inverse of `to_dict`, on `device`."""
        branches = []
        for branch in saved["branches"]:
            fused = {name: None if x is None else x.to(device) for name, x in branch["fused"].items()}
            branches.append(Branch(KVCache.from_dict(branch["cache"], device), FusedConditions(**fused)))
        return cls(
            sequence=saved["sequence"].to(device, copy=True),
            step=saved["step"],
            frames=saved["frames"],
            prompt_frames=saved["prompt_frames"],
            uniforms=None if saved["uniforms"] is None else saved["uniforms"].to(device),
            branches=branches,
        )


class TokenDecoder:
    """Draws codes from a language model; holds no state of its own.

    Args:
        lm: in evaluation mode.
        params: how a token is chosen.
        cfg_coef: coefficient of classifier-free guidance; None is the model's, 1 is no guidance.
    """

    def __init__(self, lm: "LMModel", params: SamplingParams, cfg_coef: float | None = None) -> None:
        self.lm = lm
        self.params = params
        self.cfg_coef = lm.cfg_coef if cfg_coef is None else cfg_coef

    @torch.no_grad()
    def start(
        self,
        prompt: Tensor | None = None,
        conditions: Sequence[ConditioningAttributes] = (),
        num_samples: int | None = None,
        frames: int = 256,
        two_step_cfg: bool = False,
        seed: int | None = None,
    ) -> DecoderState:
        """The state before the first code after the prompt, arguments as for `LMModel.generate`.

        Raises:
            UserError: sizes that do not fit each other, or prompt codes that do not exist.
        """
        lm = self.lm
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
            if seed is None:
                seed = int(torch.randint(2**31, (1,)).item())
            uniforms = clip_uniforms(seed, batch, sequence.shape[-1], lm.n_q).to(lm.device)
        branches = self._branches(batch, conditions, sequence.shape[-1], two_step_cfg)
        return DecoderState(sequence, step, frames, prompt_frames, uniforms, branches)

    @torch.no_grad()
    def step(self, state: DecoderState) -> None:
        """Draw the codes of one step and write them into the state. The first call also reads the prompt."""
        frames = self.lm.pattern_provider.get_pattern(state.frames).frame_of[:, state.step].tolist()
        drawn = [q for q, frame in enumerate(frames) if frame >= state.prompt_frames]
        if drawn:  # others hold the prompt or the special token already
            logits = self._logits(state, drawn)
            uniforms = None if state.uniforms is None else state.uniforms[:, state.step, drawn]
            state.sequence[:, drawn, state.step] = choose(logits, uniforms, self.params)
        state.step += 1

    def codes(self, state: DecoderState) -> Tensor:
        """Codes [B, K, F] of the sequence; `UNKNOWN` where they are not drawn yet."""
        pattern = self.lm.pattern_provider.get_pattern(state.frames)
        return pattern.revert_pattern_sequence(state.sequence, UNKNOWN)[0]

    def _logits(self, state: DecoderState, codebooks: list[int]) -> Tensor:
        """Logits [B, codebooks, card] of the next step; each branch reads the steps that it has not seen yet."""
        hidden = [self._hidden(state, branch) for branch in state.branches]
        logits = torch.cat([self.lm.heads(h[:, -1:], codebooks) for h in hidden])[:, :, 0]
        batch = state.sequence.shape[0]
        if logits.shape[0] == batch:
            return logits
        conditional, unconditional = logits.split(batch)
        return unconditional + (conditional - unconditional) * self.cfg_coef

    def _hidden(self, state: DecoderState, branch: Branch) -> Tensor:
        cache = branch.cache
        seen = max(0, cache.length - branch.fused.prefix_length)
        new = state.sequence[..., seen : state.step]
        copies = cache.keys.shape[1] // new.shape[0]  # conditional and unconditional clips are fed the same codes
        return self.lm.hidden(new.repeat(copies, 1, 1), branch.fused, cache)

    def _branches(
        self, batch: int, conditions: Sequence[ConditioningAttributes], steps: int, two_step_cfg: bool
    ) -> list[Branch]:
        lm = self.lm
        samples = list(conditions) or [ConditioningAttributes()] * batch
        groups = [samples]
        guided = len(lm.condition_provider.conditioners) > 0 and self.cfg_coef != 1.0
        if guided and any(text for sample in samples for text in sample.text.values()):
            unconditional = [drop_all_conditions(sample) for sample in samples]
            groups = [samples, unconditional] if two_step_cfg else [samples + unconditional]
        branches = []
        for group in groups:
            fused = lm.fuser.gather(lm.condition(group))
            # The last step is drawn but never read.
            room = fused.prefix_length + steps - 1
            cache = lm.transformer.make_cache(len(group), room, lm.device, self._cache_dtype())
            branches.append(Branch(cache, fused))
        return branches

    def _cache_dtype(self) -> torch.dtype:
        device = self.lm.device.type
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        return self.lm.dtype

    def _check_prompt(self, prompt: Tensor, frames: int) -> None:
        lm = self.lm
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
