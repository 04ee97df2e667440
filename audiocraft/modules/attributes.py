"""What a clip may be conditioned on: texts and waveforms by name, and how they are dropped."""

import typing as tp
from copy import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..utils.rng import as_seed
from ..utils.segments import SegmentInfo

TextCondition = str | None
ConditionType = tuple[Tensor, Tensor]  # condition [B, L, D] and its mask [B, L]


class WavCondition(tp.NamedTuple):
    """A batch of waveforms as a condition: wav [B, C, T], length [B] in samples, the rest one entry per item."""

    wav: Tensor
    length: Tensor
    sample_rate: list[int]
    path: list[str | None] = []
    seek_time: list[float | None] = []


class JointEmbedCondition(tp.NamedTuple):
    """A batch of waveforms and texts that live in one embedding space; fields as in `WavCondition`."""

    wav: Tensor
    text: list[str | None]
    length: Tensor
    sample_rate: list[int]
    path: list[str | None] = []
    seek_time: list[float | None] = []


@dataclass
class ConditioningAttributes:
    """The conditions of one clip, by kind and name; a text of None means "not given"."""

    text: dict[str, str | None] = field(default_factory=dict)
    wav: dict[str, WavCondition] = field(default_factory=dict)
    joint_embed: dict[str, JointEmbedCondition] = field(default_factory=dict)

    KINDS: tp.ClassVar[tuple[str, ...]] = ("text", "wav", "joint_embed")

    def __getitem__(self, kind: str) -> dict[str, tp.Any]:
        if kind not in self.KINDS:
            raise KeyError(kind)
        return getattr(self, kind)

    @property
    def text_attributes(self) -> tp.KeysView[str]:
        return self.text.keys()

    @property
    def wav_attributes(self) -> tp.KeysView[str]:
        return self.wav.keys()

    @property
    def joint_embed_attributes(self) -> tp.KeysView[str]:
        return self.joint_embed.keys()

    @property
    def attributes(self) -> dict[str, tp.KeysView[str]]:
        """Names by kind."""
        return {kind: self[kind].keys() for kind in self.KINDS}

    def to_flat_dict(self) -> dict[str, tp.Any]:
        """All conditions in one dict whose keys are `kind.name`."""
        return {f"{kind}.{name}": value for kind in self.KINDS for name, value in self[kind].items()}

    @classmethod
    def from_flat_dict(cls, x: dict[str, tp.Any]) -> "ConditioningAttributes":
        """The inverse of `to_flat_dict`.

        Raises:
            KeyError: a key does not start with `text.`, `wav.` or `joint_embed.`.
        """
        out = cls()
        for key, value in x.items():
            kind, _, name = key.partition(".")
            out[kind][name] = value
        return out


@dataclass
class SegmentWithAttributes(SegmentInfo):
    """A segment that can say its conditions; datasets that condition a model give segments of a class of this kind."""

    def to_condition_attributes(self) -> ConditioningAttributes:
        """The conditions of this segment."""
        raise NotImplementedError


def nullify_condition(condition: ConditionType, dim: int = 1) -> ConditionType:
    """The empty condition of the same batch: zeros of length 1 along `dim`, with a mask [B, 1] of zeros."""
    cond, mask = condition
    null = torch.zeros_like(cond.narrow(dim, 0, 1))
    return null, torch.zeros(cond.shape[0], 1, dtype=torch.int, device=mask.device)


def nullify_wav(cond: WavCondition) -> WavCondition:
    """The empty waveform: one sample of silence and length 0, for the same batch and channels."""
    null, _ = nullify_condition((cond.wav, torch.zeros_like(cond.wav)), dim=cond.wav.dim() - 1)
    count = cond.wav.shape[0]
    return WavCondition(null, torch.zeros_like(cond.length), cond.sample_rate, [None] * count, [None] * count)


def nullify_joint_embed(embed: JointEmbedCondition) -> JointEmbedCondition:
    """The empty joint embedding: no text, one sample of silence, length 0."""
    wav = nullify_wav(WavCondition(embed.wav, embed.length, embed.sample_rate))
    return JointEmbedCondition(wav.wav, [None] * len(embed.text), wav.length, wav.sample_rate, wav.path, wav.seek_time)


_NULLIFY: dict[str, tp.Callable[[tp.Any], tp.Any]] = {
    "text": lambda text: None,
    "wav": nullify_wav,
    "joint_embed": nullify_joint_embed,
}


def dropout_condition(sample: ConditioningAttributes, condition_type: str, condition: str) -> ConditioningAttributes:
    """A copy of `sample` whose `condition` of kind `condition_type` says nothing; `sample` itself stays as it was.

    Raises:
        KeyError: the sample has no such condition.
    """
    out = copy(sample)
    values = dict(sample[condition_type])
    values[condition] = _NULLIFY[condition_type](values[condition])
    setattr(out, condition_type, values)
    return out


class _Dropout(nn.Module):
    """Draws from torch's global random numbers, which checkpoints save; or, with a seed, from its own."""

    def __init__(self, seed: int | None) -> None:
        super().__init__()
        self._random = None if seed is None else torch.Generator().manual_seed(as_seed(seed))

    def _happens(self, p: float) -> bool:
        return torch.rand(1, generator=self._random).item() < p


class AttributeDropout(_Dropout):
    """Forgets single conditions of single clips while training, so that a model learns to do without each.

    Args:
        p: kind -> name -> probability, for instance `{"text": {"description": 0.1}}`.
        active_on_eval: drop while evaluating too.
        seed: of its own random numbers; None takes torch's global ones.
    """

    def __init__(
        self, p: tp.Mapping[str, tp.Mapping[str, float]], active_on_eval: bool = False, seed: int | None = None
    ) -> None:
        super().__init__(seed)
        self.p = {kind: dict(names) for kind, names in p.items()}
        self.active_on_eval = active_on_eval

    def forward(self, samples: list[ConditioningAttributes]) -> list[ConditioningAttributes]:
        """The samples, one per clip, some of them as copies that say less; in evaluation as they are."""
        if not (self.training or self.active_on_eval):
            return samples
        out = list(samples)
        for kind, names in self.p.items():
            for name, p in names.items():
                for i, sample in enumerate(out):
                    if name in sample[kind] and self._happens(p):
                        out[i] = dropout_condition(sample, kind, name)
        return out


class ClassifierFreeGuidanceDropout(_Dropout):
    """Forgets all conditions of a clip with probability `p` while training.

    The model so learns the unconditional distribution that classifier-free guidance needs (arXiv 2207.12598).

    Args:
        p: how often.
        seed: as for `AttributeDropout`.
    """

    def __init__(self, p: float, seed: int | None = None) -> None:
        super().__init__(seed)
        self.p = p

    def forward(self, samples: list[ConditioningAttributes]) -> list[ConditioningAttributes]:
        """The samples, one per clip, some of them as copies that say nothing; in evaluation as they are."""
        if not self.training or self.p <= 0:
            return samples
        return [drop_all_conditions(s) if self._happens(self.p) else s for s in samples]


def drop_all_conditions(sample: ConditioningAttributes) -> ConditioningAttributes:
    """A copy of `sample` in which every condition says nothing."""
    for kind, names in sample.attributes.items():
        for name in names:
            sample = dropout_condition(sample, kind, name)
    return sample
