"""How much memory a language model's training takes, counted on tensors that have a size and no values."""

import typing as tp
import weakref

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..models import builders
from .musicgen import count_codes, drawn_frames, model_cross_entropy
from .optimizers import get_ema, get_optimizer

FRAME_RATE = 50  # of the codecs that ship, and of the peer's for music
# Weights are drawn by looking at values; for their size it does not matter how.
_PLAIN_START = {"transformer_lm": {"weight_init": None, "depthwise_init": None, "zero_bias_init": False}}


class _Live(TorchDispatchMode):
    """Bytes of the tensors that there are, and the most that there were since `begin`."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: dict[int, int] = {}

    def begin(self) -> None:
        self.peak = self.bytes

    def __torch_dispatch__(self, func: tp.Any, types: tp.Any, args: tp.Any = (), kwargs: tp.Any = None) -> tp.Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known[key] = storage.nbytes()
            self.bytes += self._known[key]
            self.peak = max(self.peak, self.bytes)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.bytes -= self._known.pop(key, 0)


class TrainingMemory:
    """Bytes that tensors take in a language model's training, the codec's left out.

    Weights, gradients, the optimizer and the moving average are float32 whatever a step computes in.

    Args:
        cfg: of a run.
        bfloat16: whether a step computes in half precision.

    Attributes:
        parameters: numbers in the model.
        update: at most, while weights are updated.
        flops: of a segment's forward and backward pass.
    """

    def __init__(self, cfg: DictConfig, bfloat16: bool) -> None:
        from torch._subclasses.fake_tensor import FakeTensorMode

        cfg = tp.cast(DictConfig, OmegaConf.merge(cfg, _PLAIN_START))
        self._fake, self._live = FakeTensorMode(allow_non_fake_inputs=True), _Live()
        self._bfloat16, self._share = bfloat16, cfg.tokens.loss_share
        self._frames = round(cfg.dataset.segment_duration * FRAME_RATE)
        with self._fake, self._live:
            self._model = builders.get_lm_model(cfg).train()
            optimizer = get_optimizer(self._model, cfg.optim)
            average = get_ema(nn.ModuleDict({"model": self._model}), cfg.optim.ema)
        self._model.predicted(self._frames, torch.device("cpu"))  # the pattern makes its tables by looking at values
        for _ in range(2):  # the first step makes what the optimizer keeps
            self._through(1)
            with self._fake, self._live:
                self._live.begin()
                nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if average is not None:
                    average.step()
                self.update = self._live.peak
        self._keep = optimizer, average  # their tensors count
        self.parameters = sum(parameter.numel() for parameter in self._model.parameters())

    def peak(self, segments: int) -> int:
        """At most, with so many segments at once."""
        through = self._through(segments)
        with self._fake, self._live:
            self._model.zero_grad(set_to_none=True)
        return max(self.update, through)

    def most_segments(self, memory: float, limit: int = 1024) -> int:
        """How many segments at once fit so many bytes, up to a limit; 0 if none does."""
        if self.peak(1) > memory:
            return 0
        fits, fails = 1, 2
        while fails <= limit and self.peak(fails) <= memory:
            fits, fails = fails, 2 * fails
        while fails - fits > 1:
            middle = (fits + fails) // 2
            fits, fails = (middle, fails) if self.peak(middle) <= memory else (fits, middle)
        return min(fits, limit)

    def _through(self, segments: int) -> int:
        """Forward and backward of so many segments; at most so many bytes."""
        from torch.utils.flop_counter import FlopCounterMode

        model, frames, count = self._model, self._frames, FlopCounterMode(display=False)
        with self._fake, self._live:
            codes = torch.zeros(segments, model.n_q, frames, dtype=torch.int64)
            audio = torch.ones(segments, frames, dtype=torch.bool)
            self._live.begin()
            with count:
                with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
                    chosen = drawn_frames(codes, self._share) if self._share < 1 else None
                    counts = count_codes(model, audio, chosen)
                    loss, _ = model_cross_entropy(model, codes, codes, audio, [], counts, chosen)
                loss.backward()
        self.flops = count.get_total_flops() / segments
        return self._live.peak
