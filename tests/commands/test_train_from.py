"""`train FOLDER --from MODEL`: fine-tuning what was exported, tiny."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf
from tiny import RATE, write_codec

from audiocraft import train
from audiocraft.cli import app
from audiocraft.commands.origin import find_origin
from audiocraft.errors import UserError
from audiocraft.models.export import export_model
from audiocraft.models.loaders import load_lm_model
from audiocraft.solvers.musicgen import MusicGenSolver
from audiocraft.train import RunResult

TINY = [
    "device=cpu",
    "autocast=false",
    "dataset.batch_size=2",
    "dataset.num_workers=0",
    "dataset.valid.num_samples=3",
    "generate.every=null",
    "optim.updates_per_epoch=4",
    "logging.progress=off",
]
# Nothing of it is what the recipe has.
SHAPE = [
    f"sample_rate={RATE}",
    "dataset.segment_duration=1",
    "transformer_lm.dim=16",
    "transformer_lm.num_heads=2",
    "transformer_lm.num_layers=1",
    "transformer_lm.card=64",
    "transformer_lm.hidden_scale=2",
    "transformer_lm.positional_embedding=rope",
    "transformer_lm.activation=relu",
    "transformer_lm.bias_ff=true",
    "transformer_lm.qk_layer_norm=true",
    "compression_model_n_q=3",
    "transformer_lm.n_q=3",
    "codebooks_pattern.delay.delays=[0,0,1]",
    "codebooks_pattern.delay.empty_initial=1",
]
STILL = ["optim.lr=0", "optim.epochs=1", "optim.optimizer=adamw", "schedule.lr_scheduler=null"]


def run(*arguments: object) -> RunResult:
    result = app(["train", *map(str, arguments)], standalone_mode=False)
    assert isinstance(result, RunResult)
    return result


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of sounds, and a run of a tiny model on the first with its exports in both layouts."""
    home = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    for name, pitch in (("sounds", 110), ("other", 330)):
        (home / name).mkdir()
        for i in range(3):
            time = np.arange(2 * RATE) / RATE
            wave = 0.3 * np.sin(2 * np.pi * pitch * (i + 1) * time) + 0.1 * rng.standard_normal(len(time))
            soundfile.write(home / name / f"{i}.wav", wave, RATE)
    write_codec(home / "codec")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)
        first = run("sounds", "--codec", home / "codec", "--epochs", 2, *TINY, *SHAPE, "optim.lr=0.01")
        export_model(first.folder, "model")
        export_model(first.folder, "ours", format="safetensors")
        (home / "run").symlink_to(first.folder)
    return home


@pytest.fixture(autouse=True)
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)


def experiment(run_folder: Path) -> Any:
    return train.main.make_xp(json.loads((run_folder / ".argv.json").read_text()))


def loss_of(model: Path, run_folder: Path) -> float:
    """Loss of an exported model on what a run validates with."""
    xp = experiment(run_folder)
    with xp.enter():
        solver = MusicGenSolver(xp.cfg)
        solver.model = load_lm_model(model)
        return solver.run_one_stage("valid")["ce"]


@pytest.mark.parametrize("source", ["model", "ours", "run"])
def test_begins_where_the_model_is(home: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    tuned = run("other", "--from", source, *TINY, *STILL, f"label={source}")
    assert "1 layers of width 16" in capsys.readouterr().out
    history = json.loads((tuned.folder / "history.json").read_text())
    assert history[0]["valid"]["ce"] == pytest.approx(loss_of(home / "model", tuned.folder), rel=1e-6)
    begun, given = load_lm_model(tuned.folder).state_dict(), load_lm_model(home / "model").state_dict()
    assert begun.keys() == given.keys() and all(torch.equal(begun[name], given[name]) for name in given)


def test_learns_and_resumes_and_exports_the_same_shape(home: Path, tmp_path: Path) -> None:
    command = ("other", "--from", "ours", "optim.lr=0.003", *TINY)
    one = run(*command, "--epochs", 1)
    two = run(*command, "--epochs", 3)
    assert two.sig == one.sig and two.epochs == 3
    history = json.loads((two.folder / "history.json").read_text())
    assert history[2]["valid"]["ce"] < loss_of(home / "ours", two.folder)
    folder = export_model(two.folder, tmp_path / "tuned")
    configs = [OmegaConf.create(str(load_lm_model(each).cfg)) for each in (folder, home / "model")]
    for key in ("transformer_lm", "codebooks_pattern", "sample_rate", "channels", "compression_model_n_q"):
        ours, theirs = (OmegaConf.to_container(cfg)[key] for cfg in configs)  # type: ignore[call-overload,index]
        if key == "transformer_lm":  # how it trains may differ
            assert (ours.pop("attention_dropout"), theirs.pop("attention_dropout")) == (0.0, "None")
        if key == "codebooks_pattern":
            ours, theirs = ({name: node[name] for name in ("modeling", "delay")} for node in (ours, theirs))
        assert ours == theirs
    codecs = [torch.load(each / "compression_state_dict.bin")["best_state"] for each in (folder, home / "model")]
    assert all(torch.equal(codecs[0][name], codecs[1][name]) for name in codecs[1])


def test_gentle_rates_by_size(home: Path) -> None:
    overrides = find_origin("model").overrides
    assert "init_from_codec=0.0" in overrides and "transformer_lm.positional_embedding=rope" in overrides
    cfg = experiment(run("other", "--from", "run", *TINY, "--epochs", 1).folder).cfg
    assert cfg.optim.optimizer == "muon" and cfg.optim.lr == 1e-3 and cfg.optim.muon.lr == 2e-3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--from", "nope"), "there is no model 'nope'"),
        (("--from", " "), "--from is empty"),
        (("--from", "other"), "other holds none of state_dict.bin"),
        (("--from", "codec"), "codec is a codec .* --codec codec trains"),
        (("--from", "spectral_32khz"), "is a codec .* --codec"),
        (("--from", "//pretrained/mini_32khz"), "is a codec .* --codec"),
        (("--from", "player"), r"player without torch \(ONNX\)"),
        (("--from", "texts"), r"texts was trained with texts \(description\)"),
        (("--from", "model", "--scale", "pico"), r"--scale pico is another size .*leave --scale out"),
        (("--from", "model", "--codec", "spectral_32khz"), "--codec spectral_32khz is another codec"),
        (("--from", "model", "model/lm/model_scale=pico"), "has no say beside --from"),
    ],
)
def test_refuses_before_the_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.setattr("audiocraft.data.scan.scan_folder", lambda *_, **__: pytest.fail("it looked through"))
    made = Path(__file__).parents[1]
    for name, place in (("player", made / "made_before/player"), ("texts", made / "golden/lm_text")):
        if not (home / name).exists():
            (home / name).symlink_to(place)
    with pytest.raises(UserError, match=says) as raised:
        run("sounds", *arguments, *TINY)
    assert "\n" not in str(raised.value)


def test_the_same_said_twice_is_no_contradiction(home: Path) -> None:
    assert find_origin("model", codec="codec").overrides == find_origin("model").overrides


def test_a_model_that_ships(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, with its codec; with the prefix also beside a folder of that name."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "jungle").symlink_to(home / "ours")
    monkeypatch.setattr("audiocraft.checkpoints.locate.resource_dir", lambda name: tmp_path / name)
    for name in ("jungle", "//pretrained/jungle"):
        origin = find_origin(name)
        assert origin.name == "//pretrained/jungle"
        assert "compression_model_checkpoint=//pretrained/jungle" in origin.overrides
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jungle").mkdir()
    with pytest.raises(UserError, match=r"\./jungle|jungle holds none"):
        find_origin("jungle")
    tuned = run(home / "other", "--from", "//pretrained/jungle", *TINY, *STILL)
    begun, given = (load_lm_model(each).state_dict() for each in (tuned.folder, home / "ours"))
    assert all(torch.equal(begun[name], given[name]) for name in given)
