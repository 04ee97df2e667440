"""The demo on tiny material: from audio files to a page, and a second run that makes nothing anew."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import demo
import pytest
import torch
from demo_page import Clip, Page, Section, spectrogram, write_page

from audiocraft.data.audio import audio_write
from audiocraft.models import MusicGen

OVERRIDES = (
    "transformer_lm.card=64",
    "transformer_lm.dim=16",
    "transformer_lm.num_heads=2",
    "dataset.batch_size=2",
    "dataset.segment_duration=1",
    "dataset.num_workers=0",
    "dataset.valid.num_samples=2",
    "optim.updates_per_epoch=2",
    "schedule.cosine.warmup=1",
    "generate.every=null",
    "device=cpu",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files of twelve seconds of noise, and a demo of four takes of a second."""
    generator = torch.Generator().manual_seed(0)
    for index in range(3):
        audio_write(
            tmp_path / "my noise" / f"track{index}", torch.randn(1, 12 * 16000, generator=generator) * 0.1, 16000
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)
    for name, value in {"EXCERPT_SECONDS": 1.0, "PROMPT_SECONDS": 0.4, "TAKES": 4}.items():
        monkeypatch.setattr(demo, name, value)
    return tmp_path


def test_demo_twice_and_longer(home: Path, golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--folder", "my noise", "--from", "none", "--epochs", "2", "--codec", str(golden / "codec_ac")]
    assert demo.main([*arguments, *OVERRIDES]) == 0
    page = home / "outputs" / "demo_my noise" / "index.html"
    text = page.read_text()
    files = {path: path.stat().st_mtime_ns for path in page.parent.rglob("take_*")}
    assert len(files) == 2 * (4 + 2 + 2)
    told = capsys.readouterr().out
    assert "6/6" in told and "too little to choose by" in told

    assert demo.main([*arguments, *OVERRIDES]) == 0
    assert {path: path.stat().st_mtime_ns for path in page.parent.rglob("take_*")} == files
    assert len(list((home / "outputs" / "xps").iterdir())) == 1
    assert capsys.readouterr().out.count("already there") == 5

    # Every sound is there, beside the page; nothing comes from the net; the numbers are the run's and the takes'.
    sources = [unquote(source) for source in re.findall(r'<(?:audio|img)[^>]* src="([^"]+)"', text)]
    sources = [source for source in sources if not source.startswith("data:")]
    assert len(sources) == 4 + 4 + 2 + 2 + 1
    assert all((page.parent / source).is_file() for source in sources)
    assert not re.search(r'(src|href)="(https?:|/)', text) and "{{" not in text
    assert "python -m audiocraft generate" in text and "python scripts/make_jungle.py" not in text
    assert "2 epochs of 2 steps" in text and "trained from scratch on 0 minutes of your sounds" in text
    takes = json.loads((page.parent / "sound.json").read_text())["groups"]["takes"]
    assert len(takes["sounds"]) == 4
    assert f"{100 * takes['copied']:.0f} % of the takes" in text and f"<td>{takes['median']['beat']:.2f}</td>" in text

    # Other weights, other takes; what was there stays.
    assert demo.main([*arguments[:-3], "3", *arguments[-2:], *OVERRIDES]) == 0
    now = {path: path.stat().st_mtime_ns for path in page.parent.rglob("take_*")}
    assert len(now) == 2 * len(files) and files.items() <= now.items()
    assert len(json.loads((page.parent / "sound.json").read_text())["groups"]["takes"]["sounds"]) == 4


def test_begins_with_a_model_and_chooses_how_to_play(
    home: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "TUNED_SECONDS", 20.0)
    arguments = ["--folder", "my noise", "--out", "one", "--from", str(model_folder), "--epochs", "1"]
    assert demo.main([*arguments, *OVERRIDES[3:]]) == 0
    text = (home / "one" / "index.html").read_text()
    assert "beginning with" in text and "audiocraft tune" in text and f"--from {model_folder}" in text
    assert "temperature" in MusicGen.get_pretrained("one/model", "cpu").own_sampling


def test_mistakes_are_one_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--folder", "my noise", "--from", "none", "--scale", "giant"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: model/lm/model_scale=") and error.count("\n") == 1


def test_page_escapes_what_it_is_given(tmp_path: Path) -> None:
    audio = audio_write(tmp_path / 'a "b" <c>', torch.randn(1, 3200) * 0.1, 32000)
    clip = Clip("<b>loud</b>", audio, "a & b", prompt_seconds=0.05)
    page = Page(
        "<title>", "x < y", [("1", "two")], {"train": [(1, 2.0), (2, 1.0)]}, "", [Section("s", "t", [clip])], []
    )
    write_page(page, tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    assert "&lt;b&gt;loud&lt;/b&gt;" in text and "<b>loud" not in text and "x &lt; y" in text
    assert 'style="width:50.00%"' in text


def test_spectrogram_shows_a_tone_where_it_is() -> None:
    """1 kHz, in mel bands from 40 Hz to half the rate; time runs to the right."""
    seconds = torch.arange(32000) / 32000
    tone = (torch.sin(2 * torch.pi * 1000 * seconds) * (seconds > 0.5)).numpy()
    levels = spectrogram(tone, 32000, columns=100)
    assert levels.shape == (160, 100) and levels.max() == 0 and levels.min() >= -80

    def mel(hertz: float) -> float:
        return float(torch.log10(torch.tensor(1 + hertz / 700)))

    expected = (mel(1000) - mel(40)) / (mel(16000) - mel(40)) * 159
    assert abs(int(levels[:, 80].argmax()) - expected) <= 1
    assert levels[:, :40].max() < -60
