"""`codec bend`: takes of the input's length, each with what makes it again."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
import typer
from typer.testing import CliRunner

from audiocraft.commands.codec_bend import bend
from audiocraft.data.audio import audio_read, audio_write
from audiocraft.errors import UserError

RATE = 32000
app = typer.Typer()
app.command()(bend)


@pytest.fixture(scope="module")
def codec(golden: Path) -> str:
    return str(golden / "codec_ac" / "compression_state_dict.bin")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """1.5 s of noise that swells, and a bit."""
    samples = 48123
    noise = torch.rand(1, samples, generator=torch.Generator().manual_seed(1)) - 0.5
    return audio_write(tmp_path / "in" / "sound", noise * torch.linspace(0, 1, samples), RATE, normalize=False)


def run(*arguments: object) -> str:
    """What it prints. A mistake is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception:
        raise result.exception if not isinstance(result.exception, SystemExit) else UserError(result.output)
    return result.output


def notes(out: Path, number: int = 1) -> dict:
    return json.loads((out / f"take_{number:04d}.json").read_text())


def test_take_and_its_command(sound: Path, codec: str, tmp_path: Path) -> None:
    """The JSON says what made a take, and its command makes the same once more; earlier takes stay."""
    out = tmp_path / "bent"
    given = ["--hold", "0.2@1,2", "--swap", "1:3", "--drop", "4", "--amount", 0.7, "--start", 0.25, "--duration", 0.813]
    printed = run(sound, "--codec", codec, "--out", out, "--seed", 5, "--num", 2, "--device", "cpu", *given)
    assert sorted(path.name for path in out.iterdir()) == [f"take_000{n}.{e}" for n in (1, 2) for e in ("json", "wav")]
    assert (
        printed.splitlines()[1] == f"{out / 'take_0002.wav'}  seed 6  --hold 0.2@1,2 --swap 1:3 --drop 4 --amount 0.7"
    )
    facts = notes(out, 2)
    assert facts["seed"] == 6 and facts["amount"] == 0.7 and facts["codec"] == codec
    assert len(facts["codec_fingerprint"]) == 12 and facts["device"] == "cpu" and facts["torch"] == torch.__version__
    assert facts["input"] == {
        "file": str(sound),
        "start": 0.25,
        "seconds": 0.813,
        "sample_rate": RATE,
        "channels": 1,
    }
    assert facts["operations"] == [
        {"option": "hold", "codebooks": [1, 2], "frames": 10},
        {"option": "swap", "codebooks": [1, 3]},
        {"option": "drop", "codebooks": [4]},
    ]
    command = shlex.split(facts["command"])
    assert command[:5] == ["python", "-m", "audiocraft", "codec", "bend"]
    run(*command[5:], "--out", out, "--device", "cpu")
    files = [(out / f"take_000{n}.wav").read_bytes() for n in (1, 2, 3)]
    assert files[1] == files[2] and files[0] != files[1]
    assert audio_read(out / "take_0003.wav")[0].shape == (1, round(0.813 * RATE))


def test_order_given(sound: Path, codec: str, tmp_path: Path) -> None:
    orders = [["--hold", "0.1", "--reverse", "all"], ["--reverse", "all", "--hold", "0.1"]]
    for operations in orders:
        run(sound, "--codec", codec, "--out", tmp_path / "bent", "--seed", 5, *operations)
    first, second = (notes(tmp_path / "bent", number)["operations"] for number in (1, 2))
    assert [each["option"] for each in first] == ["hold", "reverse"] and second == first[::-1]
    waves = [audio_read(tmp_path / "bent" / f"take_000{number}.wav")[0] for number in (1, 2)]
    assert (waves[0] - waves[1]).abs().max() > 1e-3


def test_random_recipe_can_be_repeated(sound: Path, codec: str, tmp_path: Path) -> None:
    out = tmp_path / "bent"
    lines = run(sound, "--codec", codec, "--out", out, "--seed", 20, "--num", 3).splitlines()
    assert len({line.split("  ")[2] for line in lines}) == 3
    for line in lines:
        _, seed, operations = line.split("  ")
        run(sound, "--codec", codec, "--out", out, "--seed", seed.removeprefix("seed "), *shlex.split(operations))
    for number in (1, 2, 3):
        assert (out / f"take_000{number}.wav").read_bytes() == (out / f"take_000{number + 3}.wav").read_bytes()
        assert notes(out, number)["operations"] == notes(out, number + 3)["operations"]
        assert len(audio_read(out / f"take_000{number}.wav")[0][0]) == 48123
    # Without a seed one is drawn, and told.
    run(sound, "--codec", codec, "--out", out)
    run(sound, "--codec", codec, "--out", out)
    assert notes(out, 7)["seed"] != notes(out, 8)["seed"]


@pytest.mark.parametrize("samples", [1, 2, 639, 640, 641, 32000])
def test_lengths(codec: str, tmp_path: Path, samples: int) -> None:
    sound = audio_write(tmp_path / "sound", torch.full((1, samples), 0.3), RATE, normalize=False)
    shared = (sound, "--codec", codec, "--seed", 1, "--out", tmp_path / "bent")
    run(
        *shared, "--shuffle", "0.1", "--stutter", "2f", "--hold", "2f", "--reverse", "0.2", "--drop", 1, "--swap", "2:3"
    )
    run(*shared, "--permute-codes", "all", "--rate", "0.5")
    run(*shared, "--rate", "3")
    lengths = [audio_read(tmp_path / "bent" / f"take_000{number}.wav")[0].shape[-1] for number in (1, 2, 3)]
    assert lengths == [samples, 2 * samples, max(1, round(samples / 3))]


def test_what_changes_nothing_is_told(sound: Path, codec: str, tmp_path: Path) -> None:
    shared = (sound, "--codec", codec, "--seed", 1, "--out", tmp_path / "bent")
    assert "changed nothing" in run(*shared, "--shuffle", "1")
    assert "changed nothing" in run(*shared, "--drop", "1", "--amount", "0")
    assert "changed nothing" not in run(*shared, "--drop", "1")


@pytest.mark.parametrize("kind", ["stereo", "one sample", "silence", "clipped", "loud", "offset"])
def test_inputs(codec: str, tmp_path: Path, kind: str) -> None:
    wave = torch.sin(torch.arange(44100) / 20).expand(2, -1) * 0.5
    wave = {"one sample": wave[:, :1], "silence": wave * 0, "clipped": (wave * 9).clamp(-1, 1), "loud": wave * 9}.get(
        kind, wave + 0.4 * (kind == "offset")
    )
    soundfile.write(tmp_path / "in.wav", wave.T.numpy(), 44100, subtype="FLOAT")
    run(tmp_path / "in.wav", "--codec", codec, "--out", tmp_path / "bent", "--seed", 2, "--swap", "1:2")
    made, rate = audio_read(tmp_path / "bent" / "take_0001.wav")
    assert rate == RATE and made.shape == (1, 1 if kind == "one sample" else RATE)
    assert notes(tmp_path / "bent")["input"]["channels"] == 2 and made.abs().max() < 1


def test_folder(sound: Path, codec: str, tmp_path: Path) -> None:
    """Each file that can be read, and no takes that lie below."""
    folder = sound.parent
    audio_write(folder / "sub" / "other", torch.rand(1, 20000) - 0.5, RATE, normalize=False)
    soundfile.write(folder / "nan.wav", torch.full((9000,), torch.nan).numpy(), RATE, subtype="FLOAT")
    shared = ("--codec", codec, "--seed", 4, "--num", 2, "--hold", "0.1")
    for _ in range(2):
        printed = run(folder, *shared, "--out", folder / "bent")
        assert "nan.wav: it holds NaN or infinite samples" in printed
    files = [Path(notes(folder / "bent", number)["input"]["file"]).name for number in range(1, 9)]
    assert files == ["sound.wav", "sound.wav", "other.wav", "other.wav"] * 2
    # A file is bent alone as it is among others.
    run(folder / "sub" / "other.wav", *shared, "--out", tmp_path / "alone")
    assert (tmp_path / "alone" / "take_0002.wav").read_bytes() == (folder / "bent" / "take_0004.wav").read_bytes()
    # What the search for training audio leaves out is bent too.
    audio_write(tmp_path / "ticks" / "tick", torch.rand(1, 20) - 0.5, RATE, normalize=False)
    run(tmp_path / "ticks", *shared, "--out", tmp_path / "few")
    assert len(list((tmp_path / "few").glob("*.wav"))) == 2
    # What is too short for --start is left out.
    assert "left out" in run(folder, *shared, "--start", 1, "--out", tmp_path / "late")
    with pytest.raises(UserError, match="none of the 2 files could be bent"):
        run(folder, *shared, "--start", 100, "--out", tmp_path / "later")


def test_lookup(sound: Path, codec: str, golden: Path, tmp_path: Path) -> None:
    other = golden / "codec_ac_causal" / "compression_state_dict.bin"
    shared = (sound, "--codec", codec, "--seed", 1, "--out", tmp_path / "bent")
    run(*shared, "--lookup", other)
    run(*shared, "--lookup", codec)
    assert [len(value) for value in notes(tmp_path / "bent")["lookup"].values()] == [12]
    assert notes(tmp_path / "bent")["operations"] == [
        {"option": "lookup", "codebooks": [1, 2, 3, 4], "codec": str(other)}
    ]
    run(*shared, "--drop", 1, "--amount", 0)
    waves = [audio_read(tmp_path / "bent" / f"take_000{number}.wav")[0] for number in (1, 2, 3)]
    assert torch.equal(waves[1], waves[2]) and (waves[0] - waves[1]).abs().max() > 1e-3
    with pytest.raises(UserError, match="wide, the codec 32; look codes up in a codec of the same width"):
        run(*shared, "--lookup", golden / "codec_hf")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--drop", "5"], "--drop 5: the codebooks of this codec are 1 to 4"),
        (["--drop", "1,2,3,4"], "every codebook is dropped"),
        (["--duration", "0"], "--duration 0 is no length"),
        (["--duration", "nan"], "--duration nan is no length"),
        (["--start", "inf"], "--start inf is no length; give seconds from 0"),
        (["--start", "9"], "it holds no sound from 9 s on"),
        (["--duration", "0.000001"], "it holds no sound of that length"),
        (["--codec", "nowhere/at/all"], "nowhere/at/all"),
        (["--lookup", "nowhere/at/all"], "nowhere/at/all"),
        (["--device", "toaster"], "device=toaster is no device"),
        (["--amount", "1.5"], "less than or equal to 1"),
        (["--amount", "nan"], "less than or equal to 1"),
    ],
)
def test_refusals(sound: Path, codec: str, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        run(sound, "--codec", codec, "--out", tmp_path / "bent", *arguments)
    assert arguments[0] == "--amount" or "\n" not in str(error.value)
    assert not list((tmp_path / "bent").glob("*"))


def test_bad_files(codec: str, tmp_path: Path) -> None:
    shared = ("--codec", codec, "--out", tmp_path / "bent")
    with pytest.raises(UserError, match="there is no file or folder"):
        run(tmp_path / "nothing.wav", *shared)
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(UserError, match="cannot be read as audio"):
        run(tmp_path / "text.wav", *shared)
    soundfile.write(tmp_path / "nan.wav", torch.full((9000,), torch.nan).numpy(), RATE, subtype="FLOAT")
    with pytest.raises(UserError, match="NaN"):
        run(tmp_path / "nan.wav", *shared)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is empty"):
        run(tmp_path / "empty", *shared)


def test_import_is_light() -> None:
    code = "import sys, audiocraft.commands.codec_bend; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
