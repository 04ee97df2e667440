"""Everything that lives between two steps of the token decoder: an object that can be copied, saved and resumed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..modules.conditioners import FusedConditions
from ..modules.kv_cache import KVCache
from ..modules.sampling import clip_uniforms

UNKNOWN = -1  # a place of the sequence whose code is not drawn yet
NO_CODE = -2  # one for which the model computed no numbers to draw from


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

    def take(self, clips: Tensor, batch: int) -> "Branch":
        """A copy of some of its `batch` clips, conditional and unconditional."""
        copies = self.cache.keys.shape[1] // batch
        rows = torch.cat([clips + copy * batch for copy in range(copies)])
        fused = {name: None if x is None else x[rows] for name, x in vars(self.fused).items()}
        return Branch(self.cache.take(rows), FusedConditions(**fused))


@dataclass
class DecoderState:
    """Everything between two steps.

    Attributes:
        sequence: steps of the pattern [B, K, S]: drawn codes, prompt codes ahead, special tokens, `UNKNOWN` and
            `NO_CODE`.
        drawn: which places are drawn, bool [K, S]; the others hold the prompt or the special token.
        at: `step` on the device, int64 [1].
        step: the next step to draw; those before it are complete.
        frames: F.
        prompt_frames: those at the start that are not drawn.
        uniforms: one number per clip, step and codebook, float32 [B, S, K]; None when greedy.
        branches: see `Branch`.
        graphs: CUDA graphs of the steps on these very tensors, see `graphs.run_step`; neither copied nor saved.
    """

    sequence: Tensor
    drawn: Tensor
    at: Tensor
    step: int
    frames: int
    prompt_frames: int
    uniforms: Tensor | None
    branches: list[Branch]
    graphs: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def num_steps(self) -> int:
        """S."""
        return self.sequence.shape[-1]

    @property
    def batch(self) -> int:
        """B."""
        return self.sequence.shape[0]

    def clone(self) -> "DecoderState":
        """A copy that goes on by itself."""
        branches = [branch.clone() for branch in self.branches]
        own: dict[str, Any] = {"sequence": self.sequence.clone(), "drawn": self.drawn.clone(), "at": self.at.clone()}
        uniforms = None if self.uniforms is None else self.uniforms.clone()
        return replace(self, **own, uniforms=uniforms, branches=branches, graphs={})

    def begin_anew(self, new: "DecoderState", fused: Sequence[FusedConditions]) -> bool:
        """Become `new`, which has no branches yet, on the tensors that are here: graphs were recorded on them. Where
        shapes or conditions are others, False, and the memory is given up."""
        pairs = [(getattr(self, name), getattr(new, name)) for name in ("sequence", "drawn", "at", "uniforms")]
        conditions = [tuple(map(id, vars(each).values())) for each in fused]
        if (
            any(getattr(mine, "shape", None) != getattr(its, "shape", None) for mine, its in pairs)
            or conditions != [tuple(map(id, vars(branch.fused).values())) for branch in self.branches]
            or self.sequence.is_inference() != new.sequence.is_inference()
        ):
            self.branches.clear()
            self.graphs.clear()
            return False
        for mine, its in pairs:
            if mine is not None:
                mine.copy_(its)
        for branch in self.branches:
            cache = branch.cache
            cache.length = 0
            for tensor in (cache.at, cache.keys, cache.values):  # what is masked must be numbers all the same
                tensor.zero_()
        self.step, self.prompt_frames = new.step, new.prompt_frames
        return True

    def take(self, clips: Sequence[int], seeds: Sequence[int] | None = None) -> "DecoderState":
        """A copy of the clips with these numbers, in this order; any may come more than once.

        Args:
            clips: numbers from 0 to B - 1, one or more.
            seeds: from here on, clip i of the copy draws what a clip of seed `seeds[i]` draws in these steps; None goes
                on with each clip's own numbers.
        Raises:
            UserError: no clips, or some that are not there.
        """
        if not clips:
            raise UserError("asked for 0 clips; ask for one or more")
        if not 0 <= min(clips) <= max(clips) < self.batch:
            raise UserError(f"asked for clips {min(clips)} to {max(clips)} of {self.batch}; the first is 0")
        rows = torch.tensor(list(clips), device=self.sequence.device)
        uniforms = self.uniforms
        if uniforms is not None and seeds is None:
            uniforms = uniforms[rows]
        elif uniforms is not None and seeds is not None:
            uniforms = clip_uniforms(seeds, len(rows), *uniforms.shape[1:]).to(uniforms.device)
        branches = [branch.take(rows, self.batch) for branch in self.branches]
        own: dict[str, Any] = {"sequence": self.sequence[rows], "drawn": self.drawn.clone(), "at": self.at.clone()}
        return replace(self, **own, uniforms=uniforms, branches=branches, graphs={})

    def to_dict(self) -> dict[str, Any]:
        """Tensors, numbers, lists and dicts only: `torch.save` it, read it with `weights_only=True`."""
        return {
            "sequence": self.sequence.clone(),
            "drawn": self.drawn.clone(),
            "step": self.step,
            "frames": self.frames,
            "prompt_frames": self.prompt_frames,
            "uniforms": None if self.uniforms is None else self.uniforms.clone(),
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
            drawn=saved["drawn"].to(device),
            at=torch.tensor([saved["step"]], device=device),
            step=saved["step"],
            frames=saved["frames"],
            prompt_frames=saved["prompt_frames"],
            uniforms=None if saved["uniforms"] is None else saved["uniforms"].to(device),
            branches=branches,
        )
