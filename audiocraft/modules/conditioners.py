"""Conditions as tensors: text through T5, and how conditions enter the transformer (sum, prefix, cross-attention).

`conditioner=none` is the usual case here and costs nothing: no conditioner, no tensor, no import of transformers.
"""

import typing as tp
from dataclasses import dataclass
from zlib import crc32

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..utils.left_out import missing
from .attributes import (
    AttributeDropout,
    ClassifierFreeGuidanceDropout,
    ConditioningAttributes,
    ConditionType,
    JointEmbedCondition,
    SegmentWithAttributes,
    TextCondition,
    WavCondition,
    dropout_condition,
    nullify_condition,
    nullify_joint_embed,
    nullify_wav,
)
from .t5 import load_t5, t5_width
from .transformer import create_sin_embedding

__all__ = [
    "AttributeDropout",
    "BaseConditioner",
    "ClassifierFreeGuidanceDropout",
    "ConditionFuser",
    "ConditionType",
    "ConditioningAttributes",
    "ConditioningProvider",
    "FusedConditions",
    "JointEmbedCondition",
    "SegmentWithAttributes",
    "T5Conditioner",
    "TextCondition",
    "TextConditioner",
    "WavCondition",
    "WordConditioner",
    "dropout_condition",
    "nullify_condition",
    "nullify_joint_embed",
    "nullify_wav",
]


class BaseConditioner(nn.Module):
    """Turns one kind of condition into a sequence of vectors.

    Args:
        dim: width of what the conditioner computes.
        output_dim: D, width of the transformer.
    """

    def __init__(self, dim: int, output_dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.output_dim = output_dim
        self.output_proj = nn.Linear(dim, output_dim)

    def tokenize(self, *args: tp.Any, **kwargs: tp.Any) -> tp.Any:
        """What `forward` takes, made from raw conditions on the CPU."""
        raise NotImplementedError

    def forward(self, inputs: tp.Any) -> ConditionType:
        """Condition [B, L, D] and mask [B, L], 1 where the condition says something."""
        raise NotImplementedError


class TextConditioner(BaseConditioner):
    """A conditioner whose `tokenize` takes a list of texts."""


T5_END_ID = 1  # T5's end-of-text token, all that is left of an empty text


class T5Conditioner(TextConditioner):
    """Text through a frozen T5 encoder and a projection.

    T5 is loaded when the first text arrives and is not part of the state dict; only the projection is.

    Args:
        name: a T5 known by name, or a folder with its config.json, weights and tokenizer.
        output_dim: D.
        finetune, normalize_text: not served, only False.
        device: where the projection is put; None leaves it on torch's default. T5 follows it.
        autocast_dtype: what T5 computes in: float32 alone is served, as it overflows in float16.
        word_dropout: probability of leaving out each word, while training.

    Raises:
        UserError: the width of `name` is not known, or an option that is not served.
    """

    def __init__(
        self,
        name: str,
        output_dim: int,
        finetune: bool = False,
        device: torch.device | str | None = None,
        autocast_dtype: str | None = "float32",
        word_dropout: float = 0.0,
        normalize_text: bool = False,
    ) -> None:
        super().__init__(t5_width(name), output_dim)
        for option, value in (("finetune", finetune), ("normalize_text", normalize_text)):
            if value:
                raise UserError(f"{option} of a T5 is not served; set conditioners.*.t5.{option}=false")
        if autocast_dtype not in (None, "float32"):
            raise UserError(f"T5 in {autocast_dtype} is not served; set autocast_dtype to float32")
        self.name = name
        self.word_dropout = word_dropout
        self.to(device)

    def tokenize(self, x: list[str | None]) -> dict[str, Tensor]:
        """Token ids and attention mask, int64 [B, L]; rows of empty or missing texts have a mask of zeros."""
        texts = [text or "" for text in x]
        if self.training and self.word_dropout > 0:
            texts = [" ".join(w for w in text.split() if torch.rand(1).item() >= self.word_dropout) for text in texts]
        given = torch.tensor([bool(text) for text in texts])
        if not given.any():  # needs neither tokenizer nor T5
            ids = torch.full((len(texts), 1), T5_END_ID)
            return {"input_ids": ids, "attention_mask": torch.zeros_like(ids)}
        tokenizer, _ = load_t5(self.name)
        tokens = tokenizer(texts, return_tensors="pt", padding=True)
        return {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"] * given[:, None]}

    def forward(self, inputs: dict[str, Tensor]) -> ConditionType:
        """Ids and mask [B, L] as `tokenize` gives them → condition [B, L, D], zero where masked, and mask [B, L].

        Raises:
            UserError: there is text, and T5 or transformers is missing.
        """
        weight = self.output_proj.weight
        mask = inputs["attention_mask"]
        if mask.any():
            embeds = self._encode(inputs["input_ids"], mask, weight.device).to(weight.dtype)
        else:
            embeds = weight.new_zeros(*mask.shape, self.dim)
        mask = mask.to(weight.device)
        return self.output_proj(embeds) * mask[..., None], mask

    @torch.no_grad()
    def _encode(self, ids: Tensor, mask: Tensor, device: torch.device) -> Tensor:
        _, encoder = load_t5(self.name)
        encoder.to(device)
        # A row without any token to look at would be undefined; its result is masked out afterwards.
        mask = mask.clone()
        mask[:, 0] = 1
        with torch.autocast(device.type, enabled=False):  # T5 overflows in float16
            return encoder(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state


class WordConditioner(TextConditioner):
    """Text as a row of vectors, one per word, from a table: tiny, and in need of nothing else. Debug models have it.

    Args:
        output_dim: D.
        bins: rows of the table; words whose checksums meet in one are not told apart.
        dim: width of the table.
    """

    def __init__(self, output_dim: int, bins: int = 128, dim: int = 16) -> None:
        super().__init__(dim, output_dim)
        self.table = nn.Embedding(bins, dim)

    def tokenize(self, x: tp.Sequence[str | None]) -> dict[str, Tensor]:
        """Texts → rows of the table and mask, both [B, L]; an empty text has a mask of 0."""
        texts = [(text or "").lower().split() for text in x]
        length = max(1, *map(len, texts))
        rows = [[crc32(word.encode()) % self.table.num_embeddings for word in words] for words in texts]
        return {
            "input_ids": torch.tensor([row + [0] * (length - len(row)) for row in rows]),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows]),
        }

    def forward(self, inputs: dict[str, Tensor]) -> ConditionType:
        """What `tokenize` gives → condition [B, L, D], zero where masked, and mask [B, L]."""
        ids, mask = (inputs[name].to(self.table.weight.device) for name in ("input_ids", "attention_mask"))
        return self.output_proj(self.table(ids)) * mask[..., None], mask


class ConditioningProvider(nn.Module):
    """All conditioners of a model, by the name of the attribute each reads.

    Args:
        conditioners: name → conditioner.
        device: where they are put; None leaves them where they are.
    """

    def __init__(
        self, conditioners: tp.Mapping[str, BaseConditioner], device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.conditioners = nn.ModuleDict(dict(conditioners)).to(device)

    @property
    def text_conditions(self) -> list[str]:
        """Names of the attributes that are texts."""
        return [name for name, c in self.conditioners.items() if isinstance(c, TextConditioner)]

    def tokenize(self, inputs: list[ConditioningAttributes]) -> dict[str, tp.Any]:
        """Raw conditions of a batch, collated and tokenized per conditioner; a missing text counts as None."""
        return {
            name: tp.cast(tp.Any, self.conditioners[name]).tokenize([sample.text.get(name) for sample in inputs])
            for name in self.text_conditions
        }

    def forward(self, tokenized: dict[str, tp.Any]) -> dict[str, ConditionType]:
        """Condition tensors by name, from what `tokenize` gave."""
        return {name: self.conditioners[name](inputs) for name, inputs in tokenized.items()}


@dataclass
class FusedConditions:
    """Condition tensors sorted by how they enter the transformer; None where there is nothing."""

    sum: Tensor | None = None  # [B, 1, D], added to every step
    prefix: Tensor | None = None  # [B, P, D], steps in front of the sequence
    cross: Tensor | None = None  # [B, L, D], looked at by cross-attention

    @property
    def prefix_length(self) -> int:
        """P, steps that the prefix takes in front of the sequence."""
        return 0 if self.prefix is None else self.prefix.shape[1]

    def enter(self, x: Tensor, first: bool = True) -> Tensor:
        """`x` [B, S, D] with the sum added and, at the `first` call of a sequence, the prefix in front."""
        if self.sum is not None:
            x = x + self.sum
        if self.prefix is not None and first:
            x = torch.cat([self.prefix, x], dim=1)
        return x


class ConditionFuser(nn.Module):
    """Says which condition enters the transformer in which way.

    Args:
        fuse2cond: way (`sum`, `prepend` or `cross`) -> names of conditions.
        cross_attention_pos_emb: add sinusoidal positions to what cross-attention looks at.
        cross_attention_pos_emb_scale: factor of those positions.

    Raises:
        UserError: a way that is not served, or a condition named twice.
    """

    FUSING_METHODS: tp.ClassVar[tuple[str, ...]] = ("sum", "prepend", "cross")

    def __init__(
        self,
        fuse2cond: tp.Mapping[str, tp.Sequence[str]],
        cross_attention_pos_emb: bool = False,
        cross_attention_pos_emb_scale: float = 1.0,
    ) -> None:
        super().__init__()
        for way, names in fuse2cond.items():
            if names and way not in self.FUSING_METHODS:
                raise UserError(f"fuser.{way} is not served; use one of {', '.join(self.FUSING_METHODS)}")
        self.fuse2cond = {way: list(fuse2cond.get(way) or []) for way in self.FUSING_METHODS}
        self.cross_attention_pos_emb = cross_attention_pos_emb
        self.cross_attention_pos_emb_scale = cross_attention_pos_emb_scale
        self.cond2fuse: dict[str, str] = {}
        for way, names in self.fuse2cond.items():
            for name in names:
                if name in self.cond2fuse:
                    raise UserError(f"fuser names the condition {name} twice; keep it under one of its keys")
                self.cond2fuse[name] = way

    def gather(self, conditions: tp.Mapping[str, ConditionType]) -> FusedConditions:
        """Sort condition tensors by way.

        Masks are not used, as in the peer: what is masked is a zero vector already, but attention still spreads over
        it, so a clip also hangs on the length of the longest text in its batch.

        Raises:
            UserError: a condition that the fuser does not name, or one to sum that is longer than one step.
        """
        by_way: dict[str, list[Tensor]] = {way: [] for way in self.FUSING_METHODS}
        for name, (cond, _) in conditions.items():
            if name not in self.cond2fuse:
                raise UserError(f"the condition {name} does not enter the model; name it under fuser.cross")
            by_way[self.cond2fuse[name]].append(cond)
        for cond in by_way["sum"]:
            if cond.shape[1] != 1:
                raise UserError(f"fuser.sum takes conditions of one step, got {cond.shape[1]}; use fuser.cross")
        cross = torch.cat(by_way["cross"], dim=1) if by_way["cross"] else None
        if cross is not None and self.cross_attention_pos_emb:
            positions = torch.arange(cross.shape[1], device=cross.device)
            embedding = create_sin_embedding(positions[None, :, None], cross.shape[-1], dtype=cross.dtype)
            cross = cross + self.cross_attention_pos_emb_scale * embedding
        return FusedConditions(
            sum=torch.stack(by_way["sum"]).sum(0) if by_way["sum"] else None,
            # The first named stands nearest to the sequence, as each is put in front of what is there already.
            prefix=torch.cat(by_way["prepend"][::-1], dim=1) if by_way["prepend"] else None,
            cross=cross,
        )

    def forward(self, input: Tensor, conditions: tp.Mapping[str, ConditionType]) -> tuple[Tensor, Tensor | None]:
        """`input` [B, S, D] with sums and prefix, [B, P + S, D], and what cross-attention looks at, [B, L, D]."""
        fused = self.gather(conditions)
        return fused.enter(input), fused.cross


__getattr__ = missing(__name__)
