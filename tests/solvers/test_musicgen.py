"""The language model's training from audio files to samples, tiny, through the real entry point."""

import json
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from audiocraft import __version__, train
from audiocraft.data.audio import audio_read
from audiocraft.data.manifest import AudioMeta, save_audio_meta
from audiocraft.errors import UserError
from audiocraft.models import MusicGen
from audiocraft.models import builders as model_builders
from audiocraft.models.export import FORMATS, export_model, export_pretrained_compression_model
from audiocraft.models.lm import LMModel
from audiocraft.modules.conditioners import T5Conditioner
from audiocraft.solvers.musicgen import MusicGenSolver, compute_cross_entropy

RATE = 16000
DURATIONS = (3.0, 2.1, 0.7, 0.25)


def write_codec(folder: Path, *overrides: str) -> Path:
    """An export of a tiny codec with random weights: 16 kHz, 25 frames/s, 4 codebooks of 64."""
    cfg = train.main.make_xp(["solver=compression/debug", "dset=audio/example", f"sample_rate={RATE}", *overrides]).cfg
    torch.manual_seed(0)
    model = model_builders.get_compression_model(cfg)
    for layer in model.quantizer.vq.layers:
        layer._codebook.embed.normal_(std=0.1)
        layer._codebook.inited.fill_(1)
    folder.mkdir()
    package = {
        "best_state": model.state_dict(),
        "xp.cfg": OmegaConf.to_yaml(cfg, resolve=True),
        "version": __version__,
        "exported": True,
    }
    torch.save(package, folder / "compression_state_dict.bin")
    return folder


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a codec and four short files in a manifest."""
    folder = tmp_path_factory.mktemp("material")
    write_codec(folder / "codec")
    rng = np.random.default_rng(0)
    meta = []
    for i, seconds in enumerate(DURATIONS):
        path = folder / f"{i}.wav"
        time = np.arange(int(seconds * RATE)) / RATE
        wave = 0.3 * np.sin(2 * np.pi * 110 * (i + 1) * time) + 0.1 * rng.standard_normal(len(time))
        soundfile.write(path, wave, RATE)
        meta.append(AudioMeta(str(path), seconds, RATE))
    save_audio_meta(folder / "data.jsonl", meta)
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)


def settings(material: Path, *overrides: str) -> list[str]:
    sources = [f"datasource.{split}={material}" for split in ("train", "valid", "evaluate", "generate")]
    return [
        "solver=musicgen/debug",
        *sources,
        f"compression_model_checkpoint={material}/codec",
        f"sample_rate={RATE}",
        "transformer_lm.dim=16",
        "transformer_lm.num_heads=2",
        "transformer_lm.num_layers=1",
        "transformer_lm.card=64",
        "dataset.segment_duration=1",
        "dataset.batch_size=2",
        "dataset.valid.num_samples=3",
        "dataset.evaluate.num_samples=3",
        "dataset.generate.num_samples=3",
        "generate.every=2",
        "generate.lm.prompt_duration=0.4",
        "generate.lm.top_k=20",
        "optim.epochs=2",
        "optim.updates_per_epoch=4",
        "optim.lr=1e-2",
        "logging.progress=off",
        *overrides,
    ]


def build(material: Path, *overrides: str) -> MusicGenSolver:
    """The solver as the entry point builds it, not yet run."""
    xp = train.main.make_xp(settings(material, *overrides))
    train.main.init_xp(xp)
    with xp.enter():
        return MusicGenSolver(xp.cfg)


def metrics_of(folder: Path) -> list[dict[str, dict[str, float]]]:
    """What a run measured, without times."""
    history = json.loads((folder / "history.json").read_text())
    return [
        {stage: {k: v for k, v in values.items() if k != "duration"} for stage, values in epoch.items()}
        for epoch in history
    ]


def assert_same_metrics(one: Path, other: Path) -> None:
    ours, theirs = metrics_of(one), metrics_of(other)
    assert len(ours) == len(theirs)
    for epoch, expected in zip(ours, theirs):
        assert epoch.keys() == expected.keys()
        for stage in epoch:
            assert epoch[stage] == pytest.approx(expected[stage], rel=1e-6)


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Send the process a Ctrl-C in that step."""
    step, done = MusicGenSolver.run_step, []

    def counted(self: MusicGenSolver, *args: Any) -> dict:
        done.append(1)
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *args)

    monkeypatch.setattr(MusicGenSolver, "run_step", counted)


# Loss.


def test_cross_entropy_counts_what_the_mask_says() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5, 7)
    targets = torch.randint(7, (2, 3, 5))
    mask = torch.rand(2, 3, 5) > 0.4
    expected = []
    for k in range(3):
        rows = [
            -torch.log_softmax(logits[b, k, f], 0)[targets[b, k, f]]
            for b in range(2)
            for f in range(5)
            if mask[b, k, f]
        ]
        expected.append(torch.stack(rows).mean())
    logits[~mask] = float("nan")
    targets[~mask] = 7  # the special token has no logit
    logits.requires_grad_()
    ce, per_codebook = compute_cross_entropy(logits, targets, mask)
    torch.testing.assert_close(torch.stack(per_codebook), torch.stack(expected))
    torch.testing.assert_close(ce, torch.stack(expected).mean())
    ce.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all() and (logits.grad[~mask] == 0).all() and (logits.grad[mask] != 0).any()


def test_cross_entropy_of_nothing_is_zero() -> None:
    logits = torch.randn(1, 2, 3, 5, requires_grad=True)
    mask = torch.zeros(1, 2, 3, dtype=torch.bool)
    mask[:, 0] = True
    ce, (first, second) = compute_cross_entropy(logits, torch.zeros(1, 2, 3, dtype=torch.int64), mask)
    assert second == 0 and ce == first / 2
    ce.backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


# The whole way.


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_interrupted_and_resumed_equals_uninterrupted(
    material: Path, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    options = [f"tokens.cache={cache}", "evaluate.every=1"]
    straight = train.run(settings(material, "dora.dir=straight", *options))
    assert straight.finished and straight.epochs == 2
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        stopped = train.run(settings(material, "dora.dir=other", *options))
    assert stopped.stopped_by == signal.SIGINT and stopped.epochs == 0
    resumed = train.run(settings(material, "dora.dir=other", *options))
    assert resumed.finished and resumed.folder == stopped.folder
    assert_same_metrics(straight.folder, resumed.folder)
    history = metrics_of(straight.folder)
    names = {"ce", "ppl", *(f"{kind}_q{k}" for kind in ("ce", "ppl") for k in range(1, 5))}
    assert set(history[0]["train"]) == names | {"lr", "grad_norm"}
    assert set(history[0]["valid"]) == set(history[0]["evaluate"]) == names
    assert history[1]["train"]["ce"] < history[0]["train"]["ce"]
    # The generate stage ran in the second epoch: three free and three prompted clips, the same in both runs.
    assert "generate" not in history[0] and history[1]["generate"] == {"samples": 6}
    names = {f"00{i}_{kind}.{end}" for i in range(3) for kind in ("free", "prompted") for end in ("wav", "json")}
    for run in (straight, resumed):
        assert {path.name for path in (run.folder / "samples/2").iterdir()} == names
    for name in names:
        ours, theirs = (run.folder / "samples/2" / name for run in (straight, resumed))
        assert ours.read_bytes() == theirs.read_bytes()
    assert Path("straight/token_cache").exists() == (cache == "auto")


def test_a_sample_says_what_made_it(material: Path) -> None:
    run = train.run(settings(material, "optim.epochs=1", "generate.every=1", "generate.lm.gen_gt_samples=true"))
    folder = run.folder / "samples/1"
    assert {path.name for path in folder.glob("*.wav")} == {
        f"00{i}_{kind}.wav" for i in range(3) for kind in ("free", "prompted", "reference")
    }
    free, prompted = (json.loads((folder / f"001_{kind}.json").read_text()) for kind in ("free", "prompted"))
    assert free["kind"] == "free" and "prompt" not in free
    assert prompted["prompt"]["duration"] == pytest.approx(0.4) and Path(prompted["prompt"]["file"]).is_file()
    assert free["seed"] == prompted["seed"] == 2036 + 1
    assert free["run"] == run.sig and free["weights"] == "ema" and free["epoch"] == 1
    assert free["settings"] == {"use_sampling": True, "temp": 1.0, "top_k": 20, "top_p": 0.0}
    wav, rate = audio_read(folder / free["file"])
    assert rate == RATE and wav.shape == (1, RATE)


def test_a_sample_is_the_same_alone(material: Path) -> None:
    """Clip 2 has its own seed, and prompts of different lengths change nothing."""
    solver = build(material)
    solver.model.eval()
    batch = next(iter(solver.dataloaders["generate"]))
    params: dict[str, Any] = {"use_sampling": True, "top_k": 20, "seed": 5}
    both = solver.run_generate_step(batch, 1.0, 0.4, **params)["gen_tokens"]
    batch[1][0].n_frames = 3 * 640
    uneven = solver.run_generate_step(batch, 1.0, 0.4, **params)
    assert uneven["prompt_frames"] == [3, 10]
    assert torch.equal(uneven["gen_tokens"][1], both[1])
    assert torch.equal(uneven["gen_tokens"][0, :, :3], both[0, :, :3])
    cut = solver.run_generate_step(batch, 1.0, 0.4, remove_prompt=True, **params)["gen_wav"]
    assert [wav.shape[-1] for wav in cut] == [22 * 640, 15 * 640]
    torch.testing.assert_close(cut[1], uneven["gen_wav"][1][:, 10 * 640 :])


def test_null_every_skips_also_the_last_epoch(material: Path) -> None:
    run = train.run(settings(material, "optim.epochs=1", "generate.every=null"))
    assert set(metrics_of(run.folder)[0]) == {"train", "valid"}
    assert not (run.folder / "samples").exists()


def test_short_clips_begin_with_shorter_prompts(material: Path) -> None:
    """By default the prompt is a quarter of the clip, where that is shorter than the segment."""
    options = ["generate.lm.prompt_duration=null", "generate.lm.gen_duration=0.2", "optim.epochs=1", "generate.every=1"]
    run = train.run(settings(material, *options))
    facts = json.loads((run.folder / "samples/1/000_prompted.json").read_text())
    assert facts["prompt"]["duration"] == pytest.approx(0.04) and facts["seconds"] == pytest.approx(0.2)


def test_durations_that_do_not_fit_are_told_before_training(material: Path) -> None:
    with pytest.raises(UserError, match=r"below generate\.lm\.gen_duration"):
        build(material, "generate.lm.prompt_duration=2", "generate.lm.gen_duration=1")
    assert not Path("outputs/token_cache").exists()


# Tokens.


def test_cached_and_uncached_agree_on_whole_files(material: Path) -> None:
    """Where a segment is a whole file, cache and no cache give the same codes and the same mask."""
    options = ["dataset.segment_duration=null", "generate.every=null", "dataset.short=pad"]
    solvers = [build(material, *options, f"tokens.cache={cache}") for cache in ("here", "off")]
    for with_cache, without in zip(*(solver.dataloaders["valid"] for solver in solvers)):
        ours, audio = solvers[0].get_tokens(with_cache)
        theirs, expected = solvers[1].get_tokens(without)
        frames = ours.shape[-1]
        assert torch.equal(audio, expected[:, :frames]) and not expected[:, frames:].any()
        # Beyond the frame where a file ends, padding reaches into the codes of one and not of the other.
        longest = int(audio.sum(1).argmax())
        assert torch.equal(ours[longest][:, audio[longest]][:, :-2], theirs[longest][:, expected[longest]][:, :-2])


def test_the_cache_is_shared_and_outside_the_signature(material: Path) -> None:
    first = train.run(settings(material, "generate.every=null", "optim.epochs=1"))
    entries = {path: path.stat().st_mtime_ns for path in Path("outputs/token_cache").rglob("*.npy")}
    assert len(entries) == len(DURATIONS)
    second = train.run(settings(material, "generate.every=null", "optim.epochs=1", "seed=1"))
    assert second.sig != first.sig
    assert entries == {path: path.stat().st_mtime_ns for path in Path("outputs/token_cache").rglob("*.npy")}
    off = train.run(settings(material, "generate.every=null", "optim.epochs=1", "tokens.cache=off"))
    assert off.sig == first.sig


@pytest.mark.parametrize("cache", ["here", "off"])
def test_padding_never_counts(material: Path, cache: str) -> None:
    """The loss of a step does not depend on the codes that stand in padding's place."""
    solver = build(material, f"tokens.cache={cache}", "dataset.short=pad", "dataset.min_segment_ratio=0.1")
    solver.model.eval()
    solver._training = False
    batch = next(
        batch for batch in solver.dataloaders["train"] if any(info.n_frames < info.total_frames for info in batch[1])
    )
    tokens, audio = solver.get_tokens(batch)
    assert tokens.shape == (2, 4, 25)
    assert audio.sum(1).tolist() == [(info.n_frames + 8) // 640 for info in batch[1]]
    output = solver.model.compute_predictions(tokens, [])
    mask = output.mask & audio[:, None]
    expected = compute_cross_entropy(output.logits, tokens, mask)[0]
    with torch.no_grad():
        assert float(solver.run_step(0, batch, {})["ce"]) == pytest.approx(float(expected))
    assert mask.sum() < output.mask.sum()


@pytest.mark.parametrize("cache", ["here", "off"])
def test_padding_with_special_token(material: Path, cache: str) -> None:
    solver = build(material, f"tokens.cache={cache}", "dataset.short=pad", "tokens.padding_with_special_token=true")
    for batch in solver.dataloaders["valid"]:
        tokens, audio = solver.get_tokens(batch)
        assert ((tokens == 64) == ~audio[:, None]).all()


@pytest.mark.parametrize("short", ["loop", "join"])
@pytest.mark.parametrize("cache", ["here", "off"])
def test_short_files_are_filled(material: Path, short: str, cache: str) -> None:
    solver = build(material, f"tokens.cache={cache}", f"dataset.short={short}")
    for batch in solver.dataloaders["valid"]:
        tokens, audio = solver.get_tokens(batch)
        assert tokens.shape[-1] == 25 and audio.all()


# Conditions.

TEXT = ("conditioner=text2music", "transformer_lm.num_heads=4")


def test_texts_reach_the_model(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptions lie in JSON files beside the audio; the encoder itself is replaced."""
    path = tmp_path / "a.wav"
    path.write_bytes((material / "0.wav").read_bytes())
    path.with_suffix(".json").write_text(json.dumps({"description": "a hum with noise"}))
    save_audio_meta(tmp_path / "data.jsonl", [AudioMeta(str(path), DURATIONS[0], RATE)])
    sources = [f"datasource.{split}={tmp_path}" for split in ("train", "valid", "evaluate", "generate")]
    seen = []

    def encode(self: T5Conditioner, ids: torch.Tensor, mask: torch.Tensor, device: Any) -> torch.Tensor:
        return torch.ones(*ids.shape, 768)

    def tokenize(self: T5Conditioner, x: list[str | None]) -> dict[str, torch.Tensor]:
        seen.extend(x)
        return {"input_ids": torch.ones(len(x), 3, dtype=torch.int64), "attention_mask": torch.ones(len(x), 3).long()}

    monkeypatch.setattr(T5Conditioner, "_encode", encode)
    monkeypatch.setattr(T5Conditioner, "tokenize", tokenize)
    run = train.run(settings(material, *TEXT, *sources, "optim.epochs=1", "generate.every=1"))
    assert "a hum with noise" in seen
    assert json.loads((run.folder / "samples/1/000_free.json").read_text())["text"]["description"] == "a hum with noise"


def test_texts_from_training_to_sound(material: Path, golden: Path, tmp_path: Path) -> None:
    """With a real, tiny T5: training on merged descriptions, export to both layouts, and sound by description."""
    pytest.importorskip("transformers")
    path = tmp_path / "a.wav"
    path.write_bytes((material / "0.wav").read_bytes())
    path.with_suffix(".json").write_text(json.dumps({"description": "a hum", "genre": "Noise", "bpm": 90}))
    save_audio_meta(tmp_path / "data.jsonl", [AudioMeta(str(path), DURATIONS[0], RATE)])
    options = [*TEXT, f"conditioners.description.t5.name={golden}/lm_text/t5", "dataset.train.merge_text_p=1"]
    options += [f"datasource.{split}={tmp_path}" for split in ("train", "valid", "evaluate", "generate")]
    with_texts = train.run(settings(material, *options, "optim.epochs=1", "generate.every=1"))
    other = train.run(
        settings(material, *options, "optim.epochs=1", "generate.every=null", "dataset.train.drop_desc_p=1")
    )
    losses = [metrics_of(run.folder)[0]["train"]["ce"] for run in (with_texts, other)]
    assert losses[0] != losses[1] and all(math.isfinite(loss) for loss in losses)
    takes = []
    for format in ("peer", "safetensors"):
        model = MusicGen.get_pretrained(export_model(with_texts.folder, tmp_path / format, format=format), "cpu")
        assert model.lm.cfg_coef == 3.0 and model.lm.cfg_dropout.p == 0.3
        model.set_generation_params(duration=0.4, cfg_coef=3.0)
        takes.append([model.generate([text], seed=1) for text in ("a hum", "rattling drums", None)])
    for one, two in zip(*takes):
        assert torch.equal(one, two)
    assert not torch.equal(takes[0][0], takes[0][1]) and not torch.equal(takes[0][0], takes[0][2])


@pytest.mark.parametrize("name", ["./t5", "t5"])
def test_a_t5_in_the_folder_one_starts_in(
    material: Path, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The run and its exports play from any folder, the exports also without that T5, and a resumed run is the same."""
    pytest.importorskip("transformers")
    shutil.copytree(golden / "lm_text" / "t5", tmp_path / "t5")
    options = settings(material, *TEXT, f"conditioners.description.t5.name={name}", "generate.every=null")
    run = train.run([*options, "optim.epochs=1"])
    assert train.run([*options, "optim.epochs=1"]).folder == run.folder
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    takes = []
    for source in (run.folder, *(export_model(run.folder, away / form, format=form) for form in FORMATS)):
        if source != run.folder:
            assert (source / "t5" / "spiece.model").is_file()
            shutil.rmtree(tmp_path / "t5", ignore_errors=True)
        model = MusicGen.get_pretrained(source, "cpu")
        model.set_generation_params(duration=0.4, use_sampling=False)
        takes.append(model.generate(["a hum"]))
    assert all(torch.equal(take, takes[0]) for take in takes)


def test_without_texts_no_text_encoder_is_needed(material: Path) -> None:
    assert train.run(settings(material, *TEXT, "optim.epochs=1", "generate.every=1")).finished


# Bad input.


@pytest.mark.parametrize(
    "override, way_out",
    [
        ("transformer_lm.card=128", "transformer_lm.card=64"),
        (
            "transformer_lm.n_q=2",
            "transformer_lm.n_q=4 codebooks_pattern.delay.delays=[0,1,2,3], or compression_model_n_q=2",
        ),
        ("compression_model_n_q=5", "choose 1 to 4"),
        ("sample_rate=32000", "sample_rate=16000"),
        ("channels=2", "channels=1"),
        ("generate.lm.prompt_duration=1.0", "below generate.lm.gen_duration"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(material: Path, override: str, way_out: str) -> None:
    with pytest.raises(UserError) as error:
        train.run(settings(material, "generate.every=1", override))
    assert way_out in str(error.value) and "\n" not in str(error.value)


def test_fewer_codebooks(material: Path) -> None:
    options = ["compression_model_n_q=2", "transformer_lm.n_q=2", "codebooks_pattern.delay.delays=[0,1]"]
    solver = build(material, *options)
    tokens, _ = solver.get_tokens(next(iter(solver.dataloaders["valid"])))
    assert tokens.shape[1] == 2


def test_codes_that_are_close_in_the_codec_start_close(material: Path) -> None:
    for share, like in ((0.0, 0.0), (1.0, 0.9)):
        solver = build(material, f"init_from_codec={share}", "transformer_lm.dim=512")
        vectors = solver.compression_model.quantizer.vq.layers[0].codebook
        wanted = torch.corrcoef(vectors - vectors.mean(0))
        drawn = torch.corrcoef(solver.model.emb[0].weight[: len(vectors)].detach())
        apart = ~torch.eye(len(vectors)).bool()
        agreement = float(torch.corrcoef(torch.stack([wanted[apart], drawn[apart]]))[0, 1])
        assert agreement == pytest.approx(like, abs=0.15)


def test_a_loss_that_is_no_number_stops_the_run(material: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict, calls = LMModel.compute_predictions, []

    def spoiled(self: LMModel, *args: Any, **kwargs: Any) -> Any:
        output = predict(self, *args, **kwargs)
        calls.append(1)
        output.logits = output.logits * (math.nan if len(calls) == 8 else 1.0)
        return output

    monkeypatch.setattr(LMModel, "compute_predictions", spoiled)
    with pytest.raises(UserError, match=r"step 1 of epoch 2 \(train; files: .*wav\); the last good checkpoint is .*th"):
        train.run(settings(material, "generate.every=null"))


def test_no_file_can_be_coded(material: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    save_audio_meta(tmp_path / "data.jsonl", [AudioMeta(str(tmp_path / "text.wav"), 3.0, RATE)])
    with pytest.raises(UserError, match=r"not one of the 1 files of datasource.train can be coded"):
        train.run(settings(material, f"datasource.train={tmp_path}"))


# Weights from elsewhere.


def test_a_wrong_rate_in_the_manifest_is_told_and_changes_nothing(
    material: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    meta = [AudioMeta(str(material / f"{i}.wav"), seconds, 44100) for i, seconds in enumerate(DURATIONS)]
    save_audio_meta(tmp_path / "data.jsonl", meta)
    sources = [f"datasource.{split}={tmp_path}" for split in ("train", "valid", "evaluate", "generate")]
    wrong = build(material, *sources)
    assert "0.wav is at 16000 Hz, not at 44100 Hz as its manifest says (and 3 more); the file is right" in caplog.text
    right = build(material)
    for (_, infos), (_, expected) in zip(wrong.dataloaders["valid"], right.dataloaders["valid"]):
        assert all(torch.equal(a.audio_tokens, b.audio_tokens) for a, b in zip(infos, expected))


def test_continue_from_an_export(material: Path, tmp_path: Path) -> None:
    first = build(material)
    folder = tmp_path / "export"
    folder.mkdir()
    state = {name: torch.full_like(value, 0.01) for name, value in first.model.state_dict().items()}
    package = {"best_state": state, "xp.cfg": OmegaConf.to_yaml(first.cfg), "version": __version__, "exported": True}
    torch.save(package, folder / "state_dict.bin")
    export_pretrained_compression_model(str(material / "codec"), folder)
    own = export_model(folder, tmp_path / "own", format="safetensors")
    # As the peer writes it where it wraps torch's attention.
    wrapped = {name.replace("self_attn.", "self_attn.mha."): value for name, value in state.items()}
    torch.save({**package, "best_state": wrapped}, tmp_path / "wrapped.bin")
    sources = (folder, folder / "state_dict.bin", own, own / "model.safetensors", f"//pretrained/{own}")
    sources = (*sources, tmp_path / "wrapped.bin")
    for source in (*sources, f"//pretrained/{folder}"):
        run = train.run(
            settings(material, f"continue_from={source}", "optim.epochs=1", "optim.lr=0", "generate.every=null")
        )
        checkpoint = torch.load(run.folder / "checkpoint.th", weights_only=True)
        assert all(torch.equal(checkpoint["model"][name], value) for name, value in state.items())
