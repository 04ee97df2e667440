"""The language model over codebooks: K embeddings summed, a transformer, one head per codebook (arXiv 2306.05284)."""

import math
import typing as tp
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import BadArgument, UserError
from ..modules.codebooks_patterns import CodebooksPatternProvider
from ..modules.conditioners import (
    AttributeDropout,
    ClassifierFreeGuidanceDropout,
    ConditionFuser,
    ConditioningAttributes,
    ConditioningProvider,
    ConditionType,
)
from ..modules.kv_cache import NoHiddenState
from ..modules.sampling import SamplingParams
from ..modules.transformer import StreamingTransformer, create_norm_fn

ConditionTensors = dict[str, ConditionType]
INIT_METHODS = ("gaussian", "uniform")
DEPTHWISE_INITS = ("current", "global")


def get_init_fn(method: str, input_dim: int, init_depth: int | None = None) -> Callable[[Tensor], Tensor]:
    """In-place initialisation with standard deviation 1 / sqrt(input_dim).

    Args:
        method: `gaussian`, cut at 3 deviations, or `uniform`.
        input_dim: fan-in.
        init_depth: the deviation is divided by sqrt(2 * init_depth), so that residual branches add up to about 1.

    Raises:
        UserError: an unknown method.
    """
    std = 1 / math.sqrt(input_dim)
    if init_depth is not None:
        std /= math.sqrt(2 * init_depth)
    if method == "gaussian":
        return partial(nn.init.trunc_normal_, mean=0.0, std=std, a=-3 * std, b=3 * std)
    if method == "uniform":
        bound = math.sqrt(3) * std
        return partial(nn.init.uniform_, a=-bound, b=bound)
    raise UserError(f"unknown transformer_lm.weight_init {method}; use one of {', '.join(INIT_METHODS)}, or null")


def init_layer(m: nn.Module, method: str, init_depth: int | None = None, zero_bias_init: bool = False) -> None:
    """Initialise `m` if it is a linear layer or an embedding; other modules stay as they are."""
    if isinstance(m, nn.Linear):
        get_init_fn(method, m.in_features, init_depth)(m.weight)
        if zero_bias_init and m.bias is not None:
            nn.init.zeros_(m.bias)
    elif isinstance(m, nn.Embedding):
        get_init_fn(method, m.embedding_dim)(m.weight)


class ScaledEmbedding(nn.Embedding):
    """An embedding that may have a learning rate of its own, see `make_optim_group`."""

    def __init__(self, *args: tp.Any, lr: float | None = None, **kwargs: tp.Any) -> None:
        super().__init__(*args, **kwargs)
        self.lr = lr

    def make_optim_group(self) -> dict[str, tp.Any]:
        """Parameters with their learning rate, for the optimizer."""
        group: dict[str, tp.Any] = {"params": list(self.parameters())}
        if self.lr is not None:
            group["lr"] = self.lr
        return group


@dataclass
class LMOutput:
    """logits [B, K, F, card], NaN where `mask` [B, K, F] is False: codes that the sequence does not predict."""

    logits: Tensor
    mask: Tensor


class LMModel(NoHiddenState, nn.Module):
    """Transformer over K streams of codes.

    Args:
        pattern_provider: how codes are laid out as steps; every pattern must start with the special token.
        condition_provider, fuser: conditions as tensors, and how they enter.
        n_q, card: K, and codes per codebook; `card` itself is the special token.
        dim, num_heads, hidden_scale: D, heads, and width of the feed-forward blocks over D.
        norm, norm_first: kind of norm; before each block (with one more at the end) or after it.
        emb_lr: learning rate of the embeddings; None is the optimizer's.
        bias_proj: biases on the heads.
        weight_init, depthwise_init, zero_bias_init: see `init_layer`; depth is the layer's own (`current`), that of
            the whole model (`global`), or not looked at (None). None for `weight_init` keeps torch's.
        cfg_dropout, cfg_coef: classifier-free guidance: how often training drops all conditions, and the default
            coefficient when generating.
        attribute_dropout: how often training drops single conditions, see `AttributeDropout`.
        two_step_cfg: default of `generate`.
        kwargs: for `StreamingTransformer`.

    Raises:
        UserError: an option with a value that is not served.
    """

    def __init__(
        self,
        pattern_provider: CodebooksPatternProvider,
        condition_provider: ConditioningProvider,
        fuser: ConditionFuser,
        n_q: int = 8,
        card: int = 1024,
        dim: int = 128,
        num_heads: int = 8,
        hidden_scale: int = 4,
        norm: str = "layer_norm",
        norm_first: bool = False,
        emb_lr: float | None = None,
        bias_proj: bool = True,
        weight_init: str | None = None,
        depthwise_init: str | None = None,
        zero_bias_init: bool = False,
        cfg_dropout: float = 0,
        cfg_coef: float = 1.0,
        attribute_dropout: Mapping[str, Mapping[str, float]] | None = None,
        two_step_cfg: bool = False,
        **kwargs: tp.Any,
    ) -> None:
        super().__init__()
        if not pattern_provider.get_pattern(1).starts_with_special_token():
            raise UserError(
                "the codebooks pattern has no special token in front; set delay.empty_initial to 0 or above"
            )
        self.cfg_coef = cfg_coef
        self.two_step_cfg = two_step_cfg
        self.cfg_dropout = ClassifierFreeGuidanceDropout(p=cfg_dropout)
        self.att_dropout = AttributeDropout(p=attribute_dropout or {})
        self.condition_provider = condition_provider
        self.fuser = fuser
        self.n_q = n_q
        self.card = card
        self.dim = dim
        self.pattern_provider = pattern_provider
        self.emb = nn.ModuleList([ScaledEmbedding(card + 1, dim, lr=emb_lr) for _ in range(n_q)])
        self.transformer = StreamingTransformer(
            d_model=dim,
            num_heads=num_heads,
            dim_feedforward=int(hidden_scale * dim),
            norm=norm,
            norm_first=norm_first,
            **kwargs,
        )
        self.out_norm = create_norm_fn(norm, dim) if norm_first else None
        self.linears = nn.ModuleList([nn.Linear(dim, card, bias=bias_proj) for _ in range(n_q)])
        self._init_weights(weight_init, depthwise_init, zero_bias_init)

    def _init_weights(self, weight_init: str | None, depthwise_init: str | None, zero_bias_init: bool) -> None:
        if depthwise_init is not None and depthwise_init not in DEPTHWISE_INITS:
            raise UserError(
                f"unknown transformer_lm.depthwise_init {depthwise_init}; use one of {', '.join(DEPTHWISE_INITS)}"
            )
        if weight_init is None:
            if depthwise_init is not None or zero_bias_init:
                raise UserError("depthwise_init and zero_bias_init act only with weight_init; set it to gaussian")
            return
        for module in [*self.emb, *self.linears]:
            init_layer(module, weight_init, zero_bias_init=zero_bias_init)
        layers = self.transformer.layers
        for number, layer in enumerate(layers, start=1):
            depth = {"current": number, "global": len(layers), None: None}[depthwise_init]
            for module in layer.modules():
                init_layer(module, weight_init, init_depth=depth, zero_bias_init=zero_bias_init)

    @property
    def special_token_id(self) -> int:
        """What stands for "no code" in a sequence."""
        return self.card

    @property
    def num_codebooks(self) -> int:
        """K."""
        return self.n_q

    @property
    def device(self) -> torch.device:
        """Where the weights are; sequences must be there too."""
        return next(self.emb.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.emb.parameters()).dtype

    def condition(self, conditions: Sequence[ConditioningAttributes]) -> ConditionTensors:
        """Condition tensors of a batch, after the dropouts of training."""
        if len(self.condition_provider.conditioners) == 0:
            return {}
        kept = self.att_dropout(self.cfg_dropout(list(conditions)))
        return self.condition_provider(self.condition_provider.tokenize(kept))

    def forward(
        self,
        sequence: Tensor,
        conditions: Sequence[ConditioningAttributes],
        condition_tensors: ConditionTensors | None = None,
    ) -> Tensor:
        """Logits of each next step.

        Args:
            sequence: steps of a pattern [B, K, S], codes or the special token.
            conditions: one per item, or none at all; not looked at if `condition_tensors` are given.
            condition_tensors: what `condition` gave.

        Returns:
            [B, K, S, card], still in the layout of the pattern: place s predicts step s + 1.
        """
        x = self.hidden(sequence, conditions, condition_tensors)
        return torch.stack([head(x) for head in self.linears], dim=1)

    def hidden(
        self,
        sequence: Tensor,
        conditions: Sequence[ConditioningAttributes],
        condition_tensors: ConditionTensors | None = None,
    ) -> Tensor:
        """What the heads make logits of, [B, S, D]; see `forward`."""
        if sequence.shape[1] != self.n_q:
            raise BadArgument(f"the model has {self.n_q} codebooks, got codes of {sequence.shape[1]}")
        if condition_tensors is None:
            condition_tensors = self.condition(conditions or [ConditioningAttributes()] * len(sequence))
        fused = self.fuser.gather(condition_tensors)
        x = torch.stack([emb(codes) for emb, codes in zip(self.emb, sequence.unbind(1))]).sum(0)
        x = fused.enter(x, first=True)
        x = self.transformer(x, cross_attention_src=fused.cross)[:, -sequence.shape[2] :]  # without the prefix
        return x if self.out_norm is None else self.out_norm(x)

    def compute_predictions(
        self,
        codes: Tensor,
        conditions: Sequence[ConditioningAttributes],
        condition_tensors: ConditionTensors | None = None,
        keep_only_valid_steps: bool = True,
    ) -> LMOutput:
        """Logits of every code given those before it in the pattern.

        Args:
            codes: [B, K, F].
            conditions, condition_tensors: as for `forward`.
            keep_only_valid_steps: leave out the steps at the end in which early codebooks have run out; the last
                codes of late codebooks are then not predicted.
        """
        batch, n_q, frames = codes.shape
        pattern = self.pattern_provider.get_pattern(frames)
        sequence, _, _ = pattern.build_pattern_sequence(codes, self.special_token_id, keep_only_valid_steps)
        logits = self(sequence, conditions, condition_tensors)
        steps = sequence.shape[-1]
        indexes, mask = pattern.reverted_indexes(
            steps, keep_only_valid_steps, is_model_output=True, device=codes.device
        )
        # As Pattern.revert_pattern_logits, with card last: one gather of whole rows, and no copy of all logits before.
        logits = logits.flatten(1, 2)[:, indexes.clamp(max=n_q * steps - 1).flatten()].unflatten(1, (n_q, frames))
        logits = logits.masked_fill(~mask[..., None], float("nan"))
        return LMOutput(logits, mask.expand(batch, n_q, frames))

    def predicted(self, frames: int, device: torch.device) -> Tensor:
        """Which codes of so many frames `compute_predictions` predicts: bool [K, F]."""
        pattern = self.pattern_provider.get_pattern(frames)
        return pattern.reverted_indexes(pattern.valid_steps, True, is_model_output=True, device=device)[1]

    def predictions_at(
        self, codes: Tensor, conditions: Sequence[ConditioningAttributes], frames: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """As `compute_predictions`, of some frames only: heads and what follows them are most of a small model's work.

        Args:
            codes: [B, K, F].
            conditions: as for `forward`.
            frames: for each codebook which ones, [N]; N may differ.

        Returns:
            For each codebook logits [B, N, card], and mask [N]: where it is False they predict nothing.
        """
        pattern = self.pattern_provider.get_pattern(codes.shape[-1])
        sequence, _, _ = pattern.build_pattern_sequence(codes, self.special_token_id, keep_only_valid_steps=True)
        x, steps = self.hidden(sequence, conditions), sequence.shape[-1]
        indexes, mask = pattern.reverted_indexes(steps, True, is_model_output=True, device=codes.device)
        out = []
        for k, (head, chosen) in enumerate(zip(self.linears, frames)):
            places = (indexes[k, chosen] - k * steps).clamp(max=steps - 1)
            out.append((head(x[:, places]), mask[k, chosen]))
        return out

    @torch.no_grad()
    def generate(
        self,
        prompt: Tensor | None = None,
        conditions: Sequence[ConditioningAttributes] = (),
        num_samples: int | None = None,
        max_gen_len: int = 256,
        use_sampling: bool = True,
        temp: float = 1.0,
        top_k: int = 250,
        top_p: float = 0.0,
        cfg_coef: float | None = None,
        two_step_cfg: bool | None = None,
        remove_prompts: bool = False,
        check: bool = False,
        callback: Callable[[int, int], None] | None = None,
        seed: int | None = None,
        min_p: float = 0.0,
        cool: float = 1.0,
        repetition: float = 0.0,
    ) -> Tensor:
        """Draw codes.

        Args:
            prompt: codes [B, K, P] that the result starts with, P < max_gen_len.
            conditions: one per clip, or none.
            num_samples: B, where neither prompt nor conditions say it; 1 if nothing does.
            max_gen_len: F, frames of the result, prompt included.
            use_sampling, temp, top_k, top_p, min_p, cool, repetition: see `SamplingParams`.
            cfg_coef: classifier-free guidance: logits = u + (c - u) * cfg_coef; None is the model's. Models
                without conditions have nothing to guide.
            two_step_cfg: conditional and unconditional halves one after the other: less memory, the same result.
            remove_prompts: leave the prompt out of the result.
            check: verify that every code was set and that the prompt is as it was.
            callback: called after each step with the steps done and the steps there are.
            seed: clip i draws from seed + i, and in float32 comes out the same alone or in any batch (with texts, in
                any batch whose longest text is as long: shorter ones are filled up, and attention sees that); None
                takes one from torch's global random numbers.

        Returns:
            codes, int64 [B, K, F], F less P with `remove_prompts`.

        Raises:
            UserError: sizes that do not fit each other, prompt codes that do not exist, options out of range.
        """
        from .generate import TokenDecoder  # a higher room, needed only here

        if self.training:
            raise BadArgument("generate needs the model in evaluation mode; call .eval() first")
        params = SamplingParams(use_sampling, temp, top_k, top_p, min_p, cool, repetition)
        decoder = TokenDecoder(self, params, cfg_coef)
        two_step = self.two_step_cfg if two_step_cfg is None else two_step_cfg
        state = decoder.start(prompt, conditions, num_samples, max_gen_len, two_step, seed)
        first, total = state.step, state.num_steps
        while state.step < total:
            decoder.step(state)
            if callback is not None:
                callback(state.step - first, total - first)
        codes = decoder.codes(state)
        if check:
            if not ((codes >= 0) & (codes < self.card)).all():
                raise RuntimeError("generation left codes unset; this is a bug of the pattern or the decoder")
            if prompt is not None and not torch.equal(codes[..., : prompt.shape[-1]], prompt.to(codes.device)):
                raise RuntimeError("generation changed the prompt; this is a bug of the pattern or the decoder")
        return codes[..., prompt.shape[-1] :] if remove_prompts and prompt is not None else codes
