"""Training of a language model over the codes of a codec (arXiv 2306.05284)."""

import typing as tp
from functools import cached_property
from pathlib import Path

import flashy
import torch
from flashy import distrib
from torch import Tensor
from torch.nn import functional as F

from ..checkpoints import local_t5
from ..checkpoints.weights import with_own_attention_names
from ..data.token_cache import TokenCache
from ..environment import AudioCraftEnvironment
from ..errors import UserError
from ..models import builders
from ..models.codec_init import get_codebooks, init_from_codebooks
from ..models.lm import LMModel
from ..models.loaders import load_lm_model_ckpt
from ..modules.conditioners import ConditioningAttributes
from ..utils.device import codec_device, upload
from .data import DatasetType, get_audio_datasets, get_source, needs_split
from .optimizers import get_lr_scheduler, get_optimizer
from .run_codec import fit_codec, load_codec
from .samples import GenerateStage

# Samples by which resampling may leave a segment short without a frame of it being padding.
ROUNDING_SAMPLES = 8
# Stands for the codes that are left out of the loss.
NOT_COUNTED = -100


def compute_cross_entropy(
    logits: Tensor, targets: Tensor, mask: Tensor, counts: Tensor | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Cross-entropy of the codes that the mask counts, in nats.

    Args:
        logits: [B, K, F, card]; those that are masked out may be NaN.
        targets: codes [B, K, F]; those that are masked out may be anything.
        mask: bool [B, K, F].
        counts: [K]; for a part of a batch how many codes count in the whole. What comes out for its parts then adds up
            to what comes out for the whole.

    Returns:
        The mean over codebooks of the mean over the counted codes of each, and these K means; 0 for a codebook of which
        nothing counts. Gradients flow through the first.
    """
    counts = mask.sum((0, 2)) if counts is None else counts
    rows = zip(logits.unbind(1), targets.unbind(1), mask.unbind(1), counts)
    means = [_mean_cross_entropy(*row) for row in rows]
    return torch.stack(means).mean(), [mean.detach() for mean in means]


def _mean_cross_entropy(logits: Tensor, codes: Tensor, counted: Tensor, count: Tensor) -> Tensor:
    """Of one codebook: logits [B, F, card], codes and mask [B, F], and by how many the sum is divided."""
    # Codebook by codebook: beside logits and gradient, only one codebook is ever copied in full precision. What is
    # masked out is overwritten, not left out: how much that is, is known to the device alone.
    logits = logits.masked_fill(~counted[..., None], 0.0).flatten(0, 1)
    codes = codes.masked_fill(~counted, NOT_COUNTED).flatten()
    total = F.cross_entropy(logits.float(), codes, reduction="sum", ignore_index=NOT_COUNTED)
    return total / count.clamp(min=1)


def model_cross_entropy(
    model: LMModel,
    shown: Tensor,
    targets: Tensor,
    mask: Tensor,
    conditions: list[ConditioningAttributes],
    counts: Tensor,
    frames: list[Tensor] | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """`compute_cross_entropy` of what a model makes of codes, in all frames or in some.

    Args:
        shown, targets: codes [B, K, F] that the model is given, and those that it is to predict.
        mask: bool [B, F].
        counts: as there, of `count_codes`.
        frames: for each codebook which ones, see `drawn_frames`.
    """
    if frames is None:
        output = model.compute_predictions(shown, conditions)
        return compute_cross_entropy(output.logits, targets, output.mask & mask[:, None], counts)
    predictions = model.predictions_at(shown, conditions, frames)
    means = [
        _mean_cross_entropy(logits, targets[:, k, at], mask[:, at] & predicted, counts[k])
        for k, ((logits, predicted), at) in enumerate(zip(predictions, frames))
    ]
    return torch.stack(means).mean(), [mean.detach() for mean in means]


def drawn_frames(codes: Tensor, share: float) -> list[Tensor]:
    """Of the frames of codes [B, K, F] all for the first codebook, and for each other one a share of them, drawn anew:
    K tensors of indices."""
    frames, device = codes.shape[-1], codes.device
    count = max(1, round(share * frames))
    some = [torch.randperm(frames, device=device)[:count] for _ in range(codes.shape[1] - 1)]
    return [torch.arange(frames, device=device), *some]


def count_codes(model: LMModel, mask: Tensor, frames: list[Tensor] | None = None) -> Tensor:
    """How many codes of each codebook are predicted in the frames [B, F] of a mask, or in some of them: [K]."""
    predicted = model.predicted(mask.shape[-1], mask.device)
    counts = mask.sum(0) * predicted
    rows = counts if frames is None else [row[at] for row, at in zip(counts, frames)]
    return torch.stack([row.sum() for row in rows])


def corrupted(tokens: Tensor, share: float) -> Tensor:
    """Codes [B, K, F] of which about `share` are replaced by codes of the same codebook from anywhere in the batch.

    How much of a clip is replaced is drawn for each, between nothing and twice the share: a model learns from clean
    beginnings and from such as it plays itself.
    """
    if not share:
        return tokens
    clips, codebooks, frames = tokens.shape
    rates = 2 * share * torch.rand(clips, 1, 1, device=tokens.device)
    replaced = torch.rand(tokens.shape, device=tokens.device) < rates
    pool = tokens.transpose(1, 2).reshape(-1, codebooks)
    drawn = pool[torch.randint(len(pool), (clips, frames), device=tokens.device)]
    return torch.where(replaced, drawn.transpose(1, 2), tokens)


class MusicGenSolver(GenerateStage):
    """Solver of `solver=musicgen/…`: segments of codes, from the token cache or coded on the way, and what they are
    conditioned on."""

    @property
    def best_metric_name(self) -> str:
        return "ce"

    def get_formatter(self, stage_name: str) -> flashy.Formatter:
        formats = {"lr": ".2e", "ce": ".4f", "ppl": ".2f", "grad_norm": ".2e", "duration": ".1f", "samples": ".0f"}
        return flashy.Formatter(formats, exclude_keys=["ce_q*", "ppl_q*"])

    def build_model(self) -> None:
        cfg = self.cfg
        self.compression_model = load_codec(cfg, Path(self.folder), codec_device(self.device))
        self.compression_model.requires_grad_(False)
        self.compression_model.check_values = False  # readers give no NaN, and to look for some a GPU is waited for
        fit_codec(self.compression_model, cfg)
        local_t5.resolve_from_here(cfg)
        self.model = builders.get_lm_model(cfg)
        if cfg.init_from_codec:
            init_from_codebooks(self.model, get_codebooks(self.compression_model).cpu(), cfg.init_from_codec)
        self.model.to(self.device)
        self.optimizer = get_optimizer(self.model, cfg.optim)
        self.lr_scheduler = get_lr_scheduler(self.optimizer, cfg.schedule, self.total_updates)
        self.register_stateful("model", "optimizer", "lr_scheduler")
        self.register_best_state("model")
        self.register_ema("model")

    def show(self) -> None:
        codec = self.compression_model
        self.logger.info(
            "Codec %s: %d Hz, %d codebooks of %d, %g frames/s",
            self.cfg.compression_model_checkpoint,
            codec.sample_rate,
            codec.num_codebooks,
            codec.cardinality,
            codec.frame_rate,
        )
        self.log_model_summary(self.model)

    # Data.

    @property
    def token_cache_dir(self) -> Path | None:
        """Folder of the token cache; None if `tokens.cache` is off."""
        where = self.cfg.tokens.cache
        if where in (None, False, "off"):
            return None
        if where in (True, "auto"):
            return AudioCraftEnvironment.get_dora_dir() / "token_cache"
        return Path(str(where)).expanduser()

    def build_dataloaders(self) -> None:
        cfg = self.cfg.copy()
        # The loss needs to know what is padding, and a broken batch can be named.
        cfg.dataset.return_info = True
        prepare = None if self.token_cache_dir is None else self._with_tokens
        if needs_split(cfg, "generate") and get_source(cfg, "generate") is not None:
            self._durations()  # what is wrong is said now, not after an epoch
        self.dataloaders = get_audio_datasets(cfg, DatasetType.MUSIC, prepare)

    def _with_tokens(self, datasets: dict[str, tp.Any]) -> dict[str, tp.Any]:
        """The datasets with codes in place of waves."""
        assert self.token_cache_dir is not None
        cache = TokenCache(self.token_cache_dir, self.compression_model)
        paths = list(dict.fromkeys(item.path for dataset in datasets.values() for item in dataset.meta))
        progress = distrib.is_rank_zero() and self.cfg.logging.progress != "off"
        if distrib.is_distributed():
            # Each process codes its share, then finds those of the others.
            cache.prepare(paths[distrib.rank() :: distrib.world_size()], progress)
            distrib.barrier()
        report = cache.prepare(paths, progress)
        self._compare_rates(report.rates, datasets)
        for split, dataset in datasets.items():
            if not any(item.path in report.tokens for item in dataset.meta):
                raise UserError(
                    f"not one of the {len(dataset.meta)} files of datasource.{split} can be coded (one is "
                    f"{dataset.meta[0].path}); make the manifest anew with python -m audiocraft.data.audio_dataset, "
                    "which says why"
                )
        hop = self.compression_model.hop_length
        return {split: dataset.reading(report.tokens, hop) for split, dataset in datasets.items()}

    def _compare_rates(self, rates: dict[str, int], datasets: dict[str, tp.Any]) -> None:
        """Say so if files that were just read have other sample rates than their manifest gives them."""
        said = {item.path: item.sample_rate for dataset in datasets.values() for item in dataset.meta}
        wrong = [path for path, rate in rates.items() if said[path] != rate]
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            text = "%s is at %d Hz, not at %d Hz as its manifest says%s; the file is right"
            self.logger.warning(text, wrong[0], rates[wrong[0]], said[wrong[0]], more)

    @cached_property
    @torch.no_grad()
    def _silence(self) -> Tensor:
        """Codes of silence: [K, 1]."""
        codec = self.compression_model
        codes, _ = codec.encode(torch.zeros(1, codec.channels, codec.sample_rate, device=codec.device))
        return codes[0, :, codes.shape[-1] // 2, None].to(self.device)

    def get_tokens(self, batch: tuple[Tensor, tp.Sequence[tp.Any]]) -> tuple[Tensor, Tensor]:
        """Codes int64 [B, K, F] of a batch, and which frames are audio throughout, bool [B, F].

        Codes from the cache end with the audio; silence stands for what is beyond, or the special token.
        """
        given, infos = batch
        cached = not given.is_floating_point()
        tokens = upload(given, self.device if cached else self.compression_model.device)
        if not cached:
            with torch.no_grad():
                tokens = self.compression_model.encode(tokens)[0].to(self.device)
        hop = self.compression_model.hop_length
        audio = torch.tensor([(info.n_frames + ROUNDING_SAMPLES) // hop for info in infos])
        mask = upload(torch.arange(tokens.shape[-1]) < audio[:, None], self.device)
        if self.cfg.tokens.padding_with_special_token:
            tokens = tokens.masked_fill(~mask[:, None], self.model.special_token_id)
        elif cached:
            tokens = tokens.where(mask[:, None], self._silence)
        return tokens, mask

    def need_less_memory(self) -> str | None:
        if self.ema is not None and self.device.type != "cpu" and torch.device(self.ema.device).type != "cpu":
            self.ema.move("cpu")
            return "the averaged weights are kept in the computer's memory from here on (optim.ema.device=cpu)"
        if self.model.transformer.checkpointing:
            return None
        self.model.transformer.checkpointing = True
        return "layers are computed anew in the backward pass from here on (transformer_lm.checkpointing=torch)"

    def get_attributes(self, infos: tp.Sequence[tp.Any]) -> list[ConditioningAttributes]:
        """What each clip of a batch is conditioned on; empty for a model without conditioners."""
        if len(self.model.condition_provider.conditioners) == 0:
            return []
        return [info.to_condition_attributes() for info in infos]

    # Stages.

    def run_step(self, idx: int, batch: tuple[Tensor, tp.Sequence[tp.Any]], metrics: dict) -> dict:
        """One step on waves [B, C, T] or codes [B, K, F] and their infos.

        Metrics: `ce` (nats) and `ppl`, also for each codebook as `ce_q1`, `ppl_q1` and on; in training `lr` and
        `grad_norm`.
        """
        tokens, audio = self.get_tokens(batch)
        attributes, node = self.get_attributes(batch[1]), self.cfg.tokens
        shown = corrupted(tokens, node.corruption) if self.is_training else tokens
        frames = drawn_frames(tokens, node.loss_share) if self.is_training and node.loss_share < 1 else None
        counts = count_codes(self.model, audio, frames)

        def step(part: slice) -> Tensor:
            parts = (shown[part], tokens[part], audio[part], attributes[part])
            with self.autocast:
                ce, per_codebook = model_cross_entropy(self.model, *parts, counts, frames)
            if self.is_training:
                self.backward(ce)
            return torch.stack(per_codebook)

        ce_per_codebook = self.accumulation.run(len(tokens), step, undo=self.optimizer.zero_grad)
        if self.is_training:
            metrics.update(self.update())
        metrics["ce"] = ce_per_codebook.mean()
        metrics["ppl"] = metrics["ce"].exp()
        for k, value in enumerate(ce_per_codebook, start=1):
            metrics[f"ce_q{k}"] = value
            metrics[f"ppl_q{k}"] = value.exp()
        return metrics

    @torch.no_grad()
    def evaluate(self) -> dict:
        """Cross-entropy on the evaluate split."""
        return self.common_train_valid("evaluate")

    # Weights from elsewhere.

    def load_from_pretrained(self, name: str) -> dict[str, tp.Any]:
        """Weights of a language model on the hub or in a model folder."""
        return with_own_attention_names(load_lm_model_ckpt(f"//pretrained/{name}")["best_state"])
