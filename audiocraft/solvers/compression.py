"""Training of a codec: reconstruct what goes in, through the quantiser, under time and spectral losses."""

import math
import typing as tp
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby, islice
from pathlib import Path

import flashy
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..adversarial import AdversarialLoss
from ..errors import UserError
from ..metrics import codebook_usage, log_mel_distance, si_sdr
from ..models import builders, loaders
from ..models.codec import CompressionModel
from ..models.encodec import EncodecModel
from ..quantization import ResidualVectorQuantizer
from ..utils.device import upload
from .base import StandardSolver
from .data import DatasetType, get_audio_datasets, start_loader
from .optimizers import get_adversarial_losses, get_balancer, get_loss, get_lr_scheduler, get_optimizer
from .progress import Averager

ADVERSARIAL = ("adv", "feat")
# Latents per code from which k-means starts codebooks. One batch of a small codec has fewer latents than a codebook has
# codes: most would start as a copy of one latent.
VECTORS_PER_CODE = 8


def loss_weights(cfg: DictConfig) -> dict[str, float]:
    """The losses to compute, by name, with their weights.

    Raises:
        UserError: nothing but adversaries is left to learn from.
    """
    weights = {name: float(weight) for name, weight in cfg.losses.items() if weight}
    if not weights.keys() - set(ADVERSARIAL):
        raise UserError(
            "all weights under losses but those of adversaries are 0, so nothing tells what to reconstruct; "
            "set losses.l1 or losses.msspec"
        )
    return weights


def sounding(wav: torch.Tensor, infos: tp.Sequence[tp.Any]) -> torch.Tensor:
    """1 where wav [B, C, T] is sound and 0 where it is padding: [B, 1, T]."""
    frames = upload(torch.tensor([info.n_frames for info in infos]), wav.device)
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

    The codec learns from what `losses` in the config asks for, joined by the balancer, and from the quantiser's
    commitment penalty; its adversaries learn beside it, once `adversarial.start` updates are done.
    """

    model: CompressionModel

    def __init__(self, cfg: DictConfig) -> None:
        self.weights = loss_weights(cfg)
        super().__init__(cfg)

    @property
    def adversaries_play(self) -> bool:
        """Whether there are adversaries, and they have joined."""
        return len(self.adv_losses) > 0 and self.global_step >= self.cfg.adversarial.start

    def build_model(self) -> None:
        self.model = builders.get_compression_model(self.cfg).to(self.device)
        self.sisnr = get_loss("sisnr", self.cfg).to(self.device)
        heard = [name for name in self.weights if name not in ADVERSARIAL]
        self.losses = nn.ModuleDict({name: get_loss(name, self.cfg) for name in heard}).to(self.device)
        self.balancer = get_balancer(self.weights, self.cfg.balancer)
        adversarial = len(heard) < len(self.weights)
        self.adv_losses = get_adversarial_losses(self.cfg) if adversarial else nn.ModuleDict()
        self.optimizer = get_optimizer(self.model, self.cfg.optim)
        self.lr_scheduler = get_lr_scheduler(self.optimizer, self.cfg.schedule, self.total_updates)
        self.register_stateful("model", "optimizer", "lr_scheduler", "balancer", "adv_losses")
        self.register_best_state("model")
        self.register_ema("model")

    def build_dataloaders(self) -> None:
        cfg = self.cfg.copy()
        # Files and lengths travel with the sound: padding is masked, and a broken batch can be named.
        cfg.dataset.return_info = True
        self.dataloaders = get_audio_datasets(cfg, DatasetType.AUDIO)

    def train(self) -> dict:
        """The train stage; a codec from nothing gets codebooks to start with."""
        self.start_codebooks()
        return super().train()

    @torch.no_grad()
    def start_codebooks(self) -> None:
        """Start the codebooks, if they have not, by k-means over latents of the first batches of the train split.

        Raises:
            Interrupted: a signal came.
        """
        model = self.model
        if not isinstance(model, EncodecModel) or not isinstance(model.quantizer, ResidualVectorQuantizer):
            return
        if not model.quantizer.vq.started:
            latents = self.first_vectors(lambda wav: model.encoder(model.preprocess(wav)[0]), VECTORS_PER_CODE)
            model.quantizer.vq.start_(torch.cat(latents), len(latents[0]) * flashy.distrib.world_size())

    def first_vectors(self, code: tp.Callable[[torch.Tensor], torch.Tensor], per_code: int) -> list[torch.Tensor]:
        """What `code`, of wav [B, C, T] → [B, D, F], makes of the first batches of the train split: a tensor [B * F, D]
        each, and in all processes together at least `per_code` vectors for each code of a codebook, if there are."""
        loader = self.dataloaders["train"]
        assert loader.batch_size is not None
        frames = math.ceil(self.cfg.dataset.segment_duration * self.model.frame_rate) * loader.batch_size
        wanted = math.ceil(per_code * self.model.cardinality / (frames * flashy.distrib.world_size()))
        batches = min(start_loader(loader, self.epoch), self.updates_per_epoch, wanted)
        found = []
        for wav, _ in self.log_progress("codebooks", islice(self.fetch(loader), batches), total=batches):
            found.append(code(wav.to(self.device)).transpose(1, 2).flatten(0, 1))
            self.check_stop()
        self.logger.info(
            "The codebooks start from k-means over %d vectors of %d batches", sum(map(len, found)), batches
        )
        return found

    def run_step(self, idx: int, batch: tuple[torch.Tensor, list[tp.Any]], metrics: dict) -> dict:
        """One step on wav [B, C, T] and its infos.

        Metrics: `loss`, the weighted sum of the reconstruction losses, and these by name, unweighted; in training also
        `penalty`, those of the quantiser, `lr` and `grad_norm`, and while adversaries play `adv` and `feat`, the
        codec's side of the game, and `d_loss`, theirs.
        """
        wav, infos = batch
        wav = upload(wav, self.device)
        with self.autocast:
            result = self.model(wav)
        y_pred = result.x.float() * sounding(wav, infos)
        losses = {name: loss(y_pred, wav) for name, loss in self.losses.items()}
        total = torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
        metrics.update(losses, loss=total)
        if self.is_training:
            if self.adversaries_play:
                with self._game_precision():
                    game = self._play(y_pred, wav, metrics)
                metrics.update(game)
                losses |= game
            assert result.penalty is not None
            gradient, _ = self.balancer.gradient(losses, y_pred)
            # A product with the gradient that is wanted for y_pred: one walk through the model, for the penalty too.
            metrics.update(self.optimizer_step((y_pred * gradient).sum() + result.penalty))
            metrics.update(result.metrics, penalty=result.penalty)
        return {name: value.detach() if isinstance(value, torch.Tensor) else value for name, value in metrics.items()}

    def _game_precision(self) -> AbstractContextManager:
        """Adversaries compute as the codec does, but for float16: nothing scales their losses up."""
        return self.autocast if self.scaler is None else nullcontext()

    def _play(self, y_pred: torch.Tensor, wav: torch.Tensor, metrics: dict) -> dict[str, torch.Tensor]:
        """Let the adversaries learn, then ask them: the codec's losses `adv` and `feat`, those that have a weight."""
        adversaries = [tp.cast(AdversarialLoss, loss) for loss in self.adv_losses.values()]
        if self.global_step % self.cfg.adversarial.every == 0:
            metrics["d_loss"] = torch.stack([loss.train_adv(y_pred, wav) for loss in adversaries]).mean()
        pairs = [loss(y_pred, wav) for loss in adversaries]
        game = {name: torch.stack(parts).mean() for name, parts in zip(ADVERSARIAL, zip(*pairs))}
        return {name: loss for name, loss in game.items() if name in self.weights}

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
        loader = self.dataloaders["generate"]
        written = 0
        for wav, infos in self.log_progress("generate", self.fetch(loader), total=len(loader)):
            y_pred = self.model(wav.to(self.device)).x
            for item, estimate, info in zip(wav, y_pred, infos):
                number = written * flashy.distrib.world_size() + flashy.distrib.rank()
                stem = f"{number:03d}_{Path(info.meta.path).stem}_{info.seek_time:.1f}s"
                self.write_sound(f"{stem}_original", item[:, : info.n_frames])
                self.write_sound(f"{stem}_reconstruction", estimate[:, : info.n_frames])
                written += 1
                self.check_stop()
        return {"samples": written}

    def load_from_pretrained(self, name: str) -> dict[str, torch.Tensor]:
        """Weights of a codec known by name or path, to go on from (`continue_from=//pretrained/NAME`)."""
        codec = loaders.load_compression_model(f"//pretrained/{name}", device="cpu")
        self._check_causal(name, getattr(codec, "causal", False))
        return codec.state_dict()

    def check_origin(self, source: str, cfg: DictConfig) -> None:
        """Raises UserError for a codec that looks ahead where this one does not, or the contrary."""
        self._check_causal(source, bool(OmegaConf.select(cfg, "encodec.causal")))

    def _check_causal(self, name: str, causal: bool) -> None:
        """Shapes agree either way, so nothing else would notice."""
        if causal != self.cfg.encodec.causal:
            raise UserError(
                f"{name} is {'' if causal else 'not '}causal, this run is the contrary; set encodec.causal="
                f"{str(causal).lower()}, or begin anew (continue_from=null, codec train --from nothing)"
            )

    @staticmethod
    def model_from_checkpoint(checkpoint_path: Path | str, device: torch.device | str = "cpu") -> CompressionModel:
        """The codec of a run (folder, signature or checkpoint), ready to use."""
        return loaders.load_compression_model(checkpoint_path, device=device)
