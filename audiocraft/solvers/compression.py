"""Training of a codec: reconstruct what goes in, through the quantiser, under time and spectral losses."""

import typing as tp
from itertools import groupby
from pathlib import Path

import flashy
import torch
from omegaconf import DictConfig
from torch import nn

from ..data.audio import audio_write
from ..data.audio_utils import convert_audio
from ..errors import UserError
from ..metrics import codebook_usage, log_mel_distance, si_sdr
from ..models import builders as model_builders
from ..models import loaders
from ..models.encodec import CompressionModel
from . import builders
from .base import StandardSolver
from .progress import Averager

ADVERSARIAL = ("adv", "feat")


def loss_weights(cfg: DictConfig) -> dict[str, float]:
    """The losses to compute, by name, with their weights.

    Raises:
        UserError: an adversarial weight is set, or nothing is left to learn from.
    """
    weights = {name: float(weight) for name, weight in cfg.losses.items() if weight}
    if asked := [name for name in ADVERSARIAL if weights.pop(name, 0.0)]:
        keys = " and ".join(f"losses.{name}" for name in asked)
        raise UserError(
            f"{keys} ask for adversarial training, which is not there yet; "
            "set losses.adv=0 losses.feat=0, or use solver=compression/encodec_mini_32khz"
        )
    if not weights:
        raise UserError("all weights under losses are 0, so there is nothing to learn; set losses.l1 or losses.msspec")
    return weights


def sounding(wav: torch.Tensor, infos: tp.Sequence[tp.Any]) -> torch.Tensor:
    """1 where wav [B, C, T] is sound and 0 where it is padding: [B, 1, T]."""
    frames = torch.tensor([info.n_frames for info in infos], device=wav.device)
    return (torch.arange(wav.shape[-1], device=wav.device) < frames[:, None]).to(wav.dtype)[:, None]


def without_padding(infos: tp.Sequence[tp.Any]) -> tp.Iterator[tuple[slice, int]]:
    """Runs of items of a batch that have the same length, and that length in samples."""
    begin = 0
    for length, run in groupby(infos, key=lambda info: info.n_frames):
        end = begin + len(list(run))
        yield slice(begin, end), length
        begin = end


def evaluate_audio_reconstruction(y_pred: torch.Tensor, y: torch.Tensor, cfg: DictConfig) -> dict[str, float]:
    """Quality of a reconstruction y_pred [B, C, T] of y: `mel_distance` and `si_sdr` in dB, means over the batch."""
    return {
        "mel_distance": log_mel_distance(y_pred, y, cfg.sample_rate).mean().item(),
        "si_sdr": si_sdr(y_pred, y).mean().item(),
    }


class CompressionSolver(StandardSolver):
    """Solver of `solver=compression/…`.

    The loss is the weighted sum of what `losses` in the config asks for, plus the quantiser's commitment penalty.
    """

    model: CompressionModel

    def __init__(self, cfg: DictConfig) -> None:
        self.weights = loss_weights(cfg)
        super().__init__(cfg)

    def build_model(self) -> None:
        self.model = model_builders.get_compression_model(self.cfg).to(self.device)
        self.sisnr = builders.get_loss("sisnr", self.cfg).to(self.device)
        self.losses = nn.ModuleDict({name: builders.get_loss(name, self.cfg) for name in self.weights}).to(self.device)
        self.optimizer = builders.get_optimizer(self.model, self.cfg.optim)
        self.lr_scheduler = builders.get_lr_scheduler(self.optimizer, self.cfg.schedule, self.total_updates)
        self.register_stateful("model", "optimizer", "lr_scheduler")
        self.register_best_state("model")
        self.register_ema("model")

    def build_dataloaders(self) -> None:
        cfg = self.cfg.copy()
        # Files and lengths travel with the sound: padding is masked, and a broken batch can be named.
        cfg.dataset.return_info = True
        self.dataloaders = builders.get_audio_datasets(cfg, builders.DatasetType.AUDIO)

    def run_step(self, idx: int, batch: tuple[torch.Tensor, list[tp.Any]], metrics: dict) -> dict:
        """One step on wav [B, C, T] and its infos.

        Metrics: `loss`, its unweighted parts by name; in training also `penalty`, those of the quantiser, `lr` and
        `grad_norm`.
        """
        wav, infos = batch
        wav = wav.to(self.device)
        with self.autocast:
            result = self.model(wav)
        y_pred = result.x.float() * sounding(wav, infos)
        losses = {name: loss(y_pred, wav) for name, loss in self.losses.items()}
        total = torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
        if self.is_training:
            assert result.penalty is not None
            losses["penalty"] = result.penalty
            total = total + result.penalty
            metrics.update(self.optimizer_step(total))
            metrics.update(result.metrics)
        metrics.update({name: loss.detach() for name, loss in losses.items()}, loss=total.detach())
        return metrics

    def evaluate(self) -> dict:
        """Mean losses, distances in dB and use of the codebooks over the evaluate split; padding never counts."""
        average = Averager()
        codes = []
        loader = self.dataloaders["evaluate"]
        bar = self.log_progress("evaluate", self.fetch(loader), total=len(loader))
        for wav, infos in bar:
            wav = wav.to(self.device)
            batch_codes, scale = self.model.encode(wav)
            y_pred = self.model.decode(batch_codes, scale)[..., : wav.shape[-1]].float()
            for part, length in without_padding(infos):
                average.update(self._distances(y_pred[part, :, :length], wav[part, :, :length]), len(wav[part]))
                frames = max(1, length // self.model.hop_length)
                codes.append(batch_codes[part, :, :frames].transpose(0, 1).flatten(1).cpu())
            self.check_stop()
        if codes:
            joined = torch.cat(codes, dim=1)
            usages = codebook_usage(joined[None], self.model.cardinality)
            perplexities = {f"perplexity_q{index}": usage.perplexity for index, usage in enumerate(usages, start=1)}
            average.update(perplexities, joined.shape[1])
        return average.means_of_all()

    def _distances(self, y_pred: torch.Tensor, y: torch.Tensor) -> dict[str, tp.Any]:
        """What `evaluate.metrics` asks for, of a reconstruction y_pred [B, C, T] of y."""
        wanted = self.cfg.evaluate.metrics
        values: dict[str, tp.Any] = {}
        if wanted.base:
            values |= {name: loss(y_pred, y) for name, loss in self.losses.items()}
            values |= evaluate_audio_reconstruction(y_pred, y, self.cfg)
        if wanted.sisnr:
            values["sisnr"] = self.sisnr(y_pred, y)
        return values

    def generate(self) -> dict:
        """Write originals and their reconstructions side by side into `samples/EPOCH` of the run's folder."""
        folder = self.folder / self.cfg.generate.path / str(self._trained_epochs)
        options: dict = dict(self.cfg.generate.audio)
        rate = options.pop("sample_rate")
        loader = self.dataloaders["generate"]
        written = 0
        for wav, infos in self.log_progress("generate", self.fetch(loader), total=len(loader)):
            y_pred = self.model(wav.to(self.device)).x.float().cpu()
            for item, estimate, info in zip(wav, y_pred, infos):
                number = written * flashy.distrib.world_size() + flashy.distrib.rank()
                stem = folder / f"{number:03d}_{Path(info.meta.path).stem}_{info.seek_time:.1f}s"
                for kind, sound in (("original", item), ("reconstruction", estimate)):
                    path = stem.with_name(f"{stem.name}_{kind}")
                    sound = convert_audio(sound[:, : info.n_frames], self.cfg.sample_rate, rate, len(sound))
                    audio_write(path, sound, rate, **options)
                written += 1
                self.check_stop()
        return {"samples": written}

    def load_from_pretrained(self, name: str) -> dict[str, torch.Tensor]:
        """Weights of a codec known by name or path, to go on from (`continue_from=//pretrained/NAME`)."""
        return loaders.load_compression_model(f"//pretrained/{name}", device="cpu").state_dict()

    @staticmethod
    def model_from_checkpoint(checkpoint_path: Path | str, device: torch.device | str = "cpu") -> CompressionModel:
        """The codec of a run (folder, signature or checkpoint), ready to use."""
        return loaders.load_compression_model(checkpoint_path, device=device)
