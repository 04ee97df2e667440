"""Training of a codec from audio files to samples, tiny, through the real entry points."""

import json
import math
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from audiocraft import train
from audiocraft.adversarial.discriminators import DiscriminatorSTFT
from audiocraft.checkpoints.checkpoint import load_checkpoint
from audiocraft.data.manifest import AudioMeta, save_audio_meta
from audiocraft.errors import UserError
from audiocraft.models.export import export_model
from audiocraft.solvers.compression import CompressionSolver, evaluate_audio_reconstruction, loss_weights, sounding

RATE = 16000
SECONDS = 2.0
SPLITS = ("train", "valid", "generate")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three files of tones and clicks in a manifest."""
    folder = tmp_path_factory.mktemp("material")
    rng = np.random.default_rng(0)
    meta = []
    for i in range(3):
        time = np.arange(int(SECONDS * RATE)) / RATE
        wave = 0.4 * np.sin(2 * np.pi * 90 * (i + 1) * time) * np.exp(-8 * (time % 0.25))
        soundfile.write(folder / f"{i}.wav", wave + 0.01 * rng.standard_normal(len(time)), RATE)
        meta.append(AudioMeta(str(folder / f"{i}.wav"), SECONDS, RATE))
    save_audio_meta(folder / "data.jsonl", meta)
    return folder


def settings(material: Path, *overrides: str) -> list[str]:
    sources = [f"datasource.{split}={material}" for split in ("train", "valid", "evaluate", "generate")]
    return [
        "solver=compression/debug",
        *sources,
        f"sample_rate={RATE}",
        "dataset.segment_duration=0.25",
        "dataset.generate.segment_duration=0.5",
        "dataset.evaluate.segment_duration=0.5",
        "generate.audio.sample_rate=8000",
        "seanet.dimension=16",
        "seanet.ratios=[5,4,4,4]",
        "rvq.bins=32",
        "optim.lr=3e-3",
        "schedule.cosine.warmup=2",
        "optim.updates_per_epoch=12",
        "logging.progress=off",
        *overrides,
    ]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)


@pytest.fixture(scope="module")
def trained(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of two epochs."""
    where = tmp_path_factory.mktemp("runs")
    return train.run(settings(material, f"dora.dir={where}")).folder


def test_all_stages_run_and_the_loss_falls(trained: Path) -> None:
    first, second = json.loads((trained / "history.json").read_text())
    assert second["train"]["loss"] < first["train"]["loss"]
    assert {"l1", "mel", "msspec", "penalty", "loss", "used", "dead", "lr", "grad_norm"} <= first["train"].keys()
    assert {"l1", "msspec", "mel_distance", "si_sdr", "perplexity_q4"} <= second["evaluate"].keys()
    assert math.isfinite(second["evaluate"]["mel_distance"])
    expected = 0.2 * second["valid"]["l1"] + 2 * second["valid"]["mel"] + 2 * second["valid"]["msspec"]
    assert second["valid"]["loss"] == pytest.approx(expected, rel=1e-4)


def test_codebooks_start_once_from_several_batches(trained: Path) -> None:
    [line] = [line for line in (trained / "solver.log.0").read_text().splitlines() if "k-means" in line]
    latents, batches = (int(word) for word in line.split() if word.isdigit())
    assert batches > 1 and latents >= 8 * 32 > latents * (batches - 1) / batches


def test_generate_writes_pairs(trained: Path) -> None:
    samples = sorted(path.name for path in (trained / "samples" / "2").glob("*.wav"))
    assert len(samples) == 4
    for original, reconstruction in zip(samples[::2], samples[1::2]):
        assert original.endswith("_original.wav")
        assert reconstruction == original.replace("_original", "_reconstruction")
        for name in (original, reconstruction):
            info = soundfile.info(trained / "samples" / "2" / name)
            assert (info.samplerate, info.frames) == (8000, 4000)


def test_generate_alone_writes_beside_the_samples_of_its_epoch(trained: Path, material: Path) -> None:
    before = {path.name for path in (trained / "samples/2").iterdir()}
    where = f"dora.dir={trained.parents[1]}"
    assert train.run(settings(material, where, "execute_only=generate")).folder == trained
    assert [path.name for path in (trained / "samples").iterdir()] == ["2"]
    assert {path.name for path in (trained / "samples/2").iterdir()} == before


def test_evaluation_of_whole_files_leaves_padding_out(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of different lengths in one batch measure what each of them measures alone."""
    rng = np.random.default_rng(1)
    lengths = (8000, 5000, 9600)
    for i, length in enumerate(lengths):
        soundfile.write(tmp_path / f"{i}.wav", 0.2 * rng.standard_normal(length), RATE)
    weights = load_checkpoint(trained / "checkpoint.th")["ema"]["state"]["model"]

    def measured(size: int, *files: int) -> dict[str, float]:
        folder = tmp_path / "-".join(map(str, (size, *files)))
        folder.mkdir()
        meta = [AudioMeta(str(tmp_path / f"{i}.wav"), lengths[i] / RATE, RATE) for i in files]
        save_audio_meta(folder / "data.jsonl", meta)
        options = [f"dataset.evaluate.batch_size={size}", f"dataset.evaluate.num_samples={len(files)}"]
        options += ["dataset.evaluate.segment_duration=null", f"datasource.evaluate={folder}", "dataset.short=pad"]
        xp = train.main.make_xp(settings(trained, *options, *(f"datasource.{split}={folder}" for split in SPLITS)))
        train.main.init_xp(xp)
        with xp.enter():
            solver = CompressionSolver(xp.cfg)
            solver.model.load_state_dict(weights, strict=False)
            solver.model.eval()
            with torch.no_grad():
                return solver.run_stage("evaluate", solver.evaluate)

    together = measured(3, 0, 1, 2)
    alone = [measured(1, i) for i in range(3)]
    for name in ("l1", "msspec", "mel_distance"):  # where a file ends, what follows it reaches back a little
        assert together[name] == pytest.approx(sum(each[name] for each in alone) / 3, rel=0.04), name
    assert 1 <= together["perplexity_q1"] <= 32
    # In more than one batch, of different lengths.
    assert measured(2, 0, 1, 2)["l1"] == pytest.approx(together["l1"], rel=0.02)


def test_resuming_gives_what_an_uninterrupted_run_gives(trained: Path, material: Path, tmp_path: Path) -> None:
    # optim.epochs bounds the cosine too: both halves must know the whole length.
    options = [f"dora.dir={tmp_path}", "schedule.lr_scheduler=null", "generate.every=null", "evaluate.every=null"]
    whole = train.run(settings(material, *options, "label=whole"))
    train.run(settings(material, *options, "label=halves", "optim.epochs=1"))
    halves = train.run(settings(material, *options, "label=halves", "optim.epochs=2"))
    ours, theirs = (load_checkpoint(run.folder / "checkpoint.th") for run in (halves, whole))
    assert len(ours["history"]) == 2
    for name, value in theirs["model"].items():
        assert torch.equal(ours["model"][name], value), name


def test_the_codec_of_a_run_loads(trained: Path) -> None:
    codec = CompressionSolver.model_from_checkpoint(trained)
    ema = load_checkpoint(trained / "checkpoint.th")["ema"]["state"]["model"]
    assert (codec.num_codebooks, codec.cardinality, codec.sample_rate) == (4, 32, RATE)
    for name, value in codec.state_dict().items():
        assert torch.equal(value, ema[name]), name


@pytest.mark.parametrize("kind", ["//pretrained/RUN", "run", "export", "file of an export", "ours"])
def test_a_run_can_begin_with_the_weights_of_a_codec(trained: Path, material: Path, tmp_path: Path, kind: str) -> None:
    source = {"//pretrained/RUN": f"//pretrained/{trained}", "run": str(trained)}.get(kind, "")
    if not source:
        folder = export_model(str(trained), tmp_path / "export", format="safetensors" if kind == "ours" else "peer")
        source = str(folder / "compression_state_dict.bin" if kind == "file of an export" else folder)
    options = [f"continue_from={source}", "optim.lr=0", "schedule.lr_scheduler=null", "optim.epochs=1"]
    run = train.run(settings(material, *options, f"dora.dir={tmp_path}", "generate.every=null", "evaluate.every=null"))
    begun = load_checkpoint(run.folder / "checkpoint.th")["model"]
    given = load_checkpoint(trained / "checkpoint.th")["ema"]["state"]["model"]
    for name, value in begun.items():
        if "_codebook" not in name:  # codebooks learn without a learning rate
            assert torch.equal(value, given[name]), name


def test_a_causal_codec_does_not_begin_with_one_that_looks_ahead(trained: Path, material: Path, tmp_path: Path) -> None:
    """The shapes of both are the same."""
    folder = export_model(str(trained), tmp_path / "export", format="safetensors")
    for source in (folder, trained):
        with pytest.raises(UserError, match=r"not causal, .*; set encodec\.causal=false"):
            train.run(settings(material, f"continue_from={source}", "encodec.causal=true", f"dora.dir={tmp_path}"))


def test_adversaries_join_late_and_resume_bit_for_bit(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["losses.adv=4", "losses.feat=4", "adversarial.start=8", "adversarial.every=2", "optim.epochs=2"]
    options += ["balancer.balance_grads=true", "generate.every=null", "evaluate.every=null"]
    whole = train.run(settings(material, *options, f"dora.dir={tmp_path / 'whole'}"))
    checkpoint = load_checkpoint(whole.folder / "checkpoint.th")
    history = checkpoint["history"]
    assert {"adv", "feat", "d_loss"} <= history[0]["train"].keys() & history[1]["train"].keys()
    assert not {"adv", "feat", "d_loss"} & history[1]["valid"].keys()
    # Steps 8 and 10 of the first epoch, then every second one of twelve.
    adversary = checkpoint["adv_losses"]["msstftd._extra_state"]["state"]
    assert {int(state["step"]) for state in adversary.values()} == {2 + 6}

    step = CompressionSolver.run_step

    def interrupted(self: CompressionSolver, idx: int, batch: tuple, metrics: dict) -> dict:
        if self.epoch == 2 and idx == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, idx, batch, metrics)

    again = settings(material, *options, f"dora.dir={tmp_path / 'parts'}")
    with monkeypatch.context() as patch:
        patch.setattr(CompressionSolver, "run_step", interrupted)
        assert train.run(again).stopped_by == signal.SIGINT
    resumed = load_checkpoint(train.run(again).folder / "checkpoint.th")
    for part in ("model", "adv_losses", "optimizer", "balancer"):
        assert_equal(resumed[part], checkpoint[part])


def assert_equal(a: Any, b: Any) -> None:
    """Of states: dicts, lists, tensors, numbers."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for one, other in zip(a, b):
            assert_equal(one, other)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def test_adversaries_compute_in_the_precision_of_the_run(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["losses.adv=4", "losses.feat=4", "optim.epochs=1", "optim.updates_per_epoch=2"]
    options += ["generate.every=null", "evaluate.every=null"]
    dtypes, losses = {}, {}
    convolve = DiscriminatorSTFT.forward

    def watched(self: DiscriminatorSTFT, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        logits, maps = convolve(self, x)
        dtypes[name] = maps[0].dtype
        return logits, maps

    monkeypatch.setattr(DiscriminatorSTFT, "forward", watched)
    for name, precision in {"full": [], "half": ["autocast=true", "autocast_dtype=bfloat16"]}.items():
        run = train.run(settings(material, *options, *precision, f"dora.dir={tmp_path / name}"))
        losses[name] = load_checkpoint(run.folder / "checkpoint.th")["history"][0]["train"]
    assert dtypes == {"full": torch.float32, "half": torch.bfloat16}
    for key in ("adv", "feat", "d_loss"):  # how bfloat16 rounds depends on the CPU
        assert losses["half"][key] == pytest.approx(losses["full"][key], rel=0.05, abs=0.005)


def test_without_balancing_weights_are_plain(material: Path, tmp_path: Path) -> None:
    xp = train.main.make_xp(settings(material, f"dora.dir={tmp_path}", "losses.l1=3", "losses.msspec=2"))
    train.main.init_xp(xp)
    with xp.enter():
        solver = CompressionSolver(xp.cfg)
    y_pred = torch.randn(2, 1, RATE // 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    wav = torch.zeros_like(y_pred)
    losses = {name: loss(y_pred, wav) for name, loss in solver.losses.items()}
    gradient, total = solver.balancer.gradient(losses, y_pred)
    wanted = 3 * losses["l1"] + 2 * losses["mel"] + 2 * losses["msspec"]
    torch.testing.assert_close(total, wanted)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted, y_pred)[0])


def test_losses_at_zero_are_left_out_and_none_at_all_is_refused() -> None:
    assert loss_weights(OmegaConf.create({"losses": {"adv": 0.0, "l1": 0.1, "mel": 0}})) == {"l1": 0.1}
    for adv in (0.0, 4.0):
        with pytest.raises(UserError, match=r"losses\.l1"):
            loss_weights(OmegaConf.create({"losses": {"adv": adv, "l1": 0.0}}))


def test_a_loss_without_number_stops_the_run(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = settings(material, f"dora.dir={tmp_path}", "optim.epochs=2", "label=nan")
    step, calls = CompressionSolver.run_step, []

    def poisoned(self: CompressionSolver, idx: int, batch: tuple, metrics: dict) -> dict:
        calls.append(idx)
        if self.epoch == 2 and idx == 3:
            batch[0][0, 0, 0] = math.nan
        return step(self, idx, batch, metrics)

    monkeypatch.setattr(CompressionSolver, "run_step", poisoned)
    with pytest.raises(UserError) as error:
        train.run(options)
    message = str(error.value)
    folder = next((tmp_path / "xps").iterdir())
    assert "step 3 of epoch 2" in message
    assert f"{material}/" in message
    assert f"the last good checkpoint is {folder / 'checkpoint.th'}" in message
    state = load_checkpoint(folder / "checkpoint.th")
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_padding_is_not_sound() -> None:
    mask = sounding(torch.ones(2, 1, 8), [SimpleNamespace(n_frames=8), SimpleNamespace(n_frames=3)])
    assert mask[:, 0].tolist() == [[1] * 8, [1, 1, 1, 0, 0, 0, 0, 0]]


def test_evaluation_tells_better_from_worse() -> None:
    cfg = OmegaConf.create({"sample_rate": RATE})
    wav = 0.1 * torch.randn(2, 1, RATE, generator=torch.Generator().manual_seed(0))
    near, far = (evaluate_audio_reconstruction(wav + noise * wav.flip(-1), wav, cfg) for noise in (0.01, 0.5))
    assert near["mel_distance"] < far["mel_distance"]
    assert near["si_sdr"] > far["si_sdr"]
