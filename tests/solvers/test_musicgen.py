"""The language model's training from audio files to samples, tiny, through the real entry point."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from tiny import RATE
from tiny_lm import DURATIONS, assert_same_metrics, build, metrics_of, settings, stop_after

from audiocraft import __version__, train
from audiocraft.data.audio import audio_read
from audiocraft.errors import UserError
from audiocraft.models.export import export_model, export_pretrained_compression_model
from audiocraft.solvers.data import start_loader
from audiocraft.solvers.musicgen import (
    compute_cross_entropy,
    corrupted,
    count_codes,
    drawn_frames,
    model_cross_entropy,
)

pytestmark = pytest.mark.usefixtures("here")


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

MUON = ["optim.optimizer=muon", "tokens.corruption=0.1", "tokens.loss_share=0.5"]


@pytest.mark.parametrize("recipe", [["tokens.cache=off"], MUON])
def test_interrupted_and_resumed_equals_uninterrupted(
    material: Path, monkeypatch: pytest.MonkeyPatch, recipe: list[str]
) -> None:
    options = [*recipe, "evaluate.every=1"]
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
    assert Path("straight/token_cache").exists() == ("tokens.cache=off" not in recipe)


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
    loader = solver.dataloaders["train"]
    start_loader(loader, 1)  # the same segments in each run of this test
    batch = next(batch for batch in loader if any(info.n_frames < info.total_frames for info in batch[1]))
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


def test_corrupted_codes_are_codes_of_the_same_codebook() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(10, (64, 4, 100)) + 10 * torch.arange(4)[:, None]
    shown = corrupted(tokens, 0.25)
    assert torch.equal(shown // 10, tokens // 10)
    # A tenth of the replacements is the code that was there.
    shares = (shown != tokens).float().mean((1, 2))
    assert float(shares.mean()) == pytest.approx(0.9 * 0.25, abs=0.03)
    assert shares.min() < 0.05 and shares.max() > 0.4
    assert corrupted(tokens, 0) is tokens


def test_only_what_training_is_shown_is_corrupted(material: Path) -> None:
    solver = build(material, "tokens.corruption=0.5")
    solver.model.eval()
    batch = next(iter(solver.dataloaders["valid"]))
    first = {}
    for training in (True, False):
        solver._training = training
        shown: list[torch.Tensor] = []
        solver.model.register_forward_pre_hook(lambda _, args, shown=shown: shown.append(args[0]))
        solver.run_step(0, batch, {})
        first[training] = shown[0]
    assert (first[True] != first[False]).float().mean() > 0.2


def test_loss_of_a_share_of_the_frames(material: Path) -> None:
    """Of all frames it is the loss; of some it is on average; the first codebook is always whole."""
    solver = build(material, "dataset.short=pad", "dataset.min_segment_ratio=0.1")
    model = solver.model.eval()
    start_loader(solver.dataloaders["train"], 1)
    tokens, audio = solver.get_tokens(next(iter(solver.dataloaders["train"])))
    output = model.compute_predictions(tokens, [])
    mean, each = compute_cross_entropy(output.logits, tokens, output.mask & audio[:, None])

    def sampled(share: float) -> tuple[torch.Tensor, list[torch.Tensor]]:
        frames = drawn_frames(tokens, share)
        return model_cross_entropy(model, tokens, tokens, audio, [], count_codes(model, audio, frames), frames)

    torch.testing.assert_close(sampled(1.0), (mean, each))
    torch.manual_seed(0)
    drawn = [torch.stack(sampled(0.3)[1]) for _ in range(200)]
    values = torch.stack(drawn)
    torch.testing.assert_close(values[:, 0], each[0].expand(200))
    assert (values[:, 1:].std(0) > 1e-3).all()
    torch.testing.assert_close(values.mean(0), torch.stack(each), atol=0.06, rtol=0)


# Beginnings.


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


def test_stages_at_the_end_take_no_more_than_there_is(material: Path) -> None:
    """The default of 10,000 segments is for corpora."""
    many = [f"dataset.{split}.num_samples=1000" for split in ("valid", "evaluate", "generate")]
    solver = build(material, *many, "evaluate.every=1")
    lengths = {split: len(loader.dataset) for split, loader in solver.dataloaders.items()}  # type: ignore[arg-type]
    assert lengths["evaluate"] == lengths["generate"] == 7  # 6.05 s in segments of 1 s
    assert lengths["valid"] == 1000
    solver = build(material, *many, "evaluate.every=1", "dataset.segment_duration=60")
    assert len(solver.dataloaders["evaluate"].dataset) == 1  # type: ignore[arg-type]


def test_how_long_generating_takes_is_tried_out(material: Path) -> None:
    solver = build(material)
    solver.model.train()
    before = torch.get_rng_state()
    both = solver.stage_seconds("generate", 1.0)
    assert both >= 0 and solver.model.training and torch.equal(torch.get_rng_state(), before)
    # Of validation it is a share of a training step, for three segments in batches of two.
    assert solver.stage_seconds("valid", 1.0) == pytest.approx(0.5)
