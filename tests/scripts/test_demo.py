"""The demo on tiny material: from audio files to a page, and a second run that makes nothing anew."""

import re
from pathlib import Path

import demo
import pytest
import torch
from demo_page import Clip, Page, Section, spectrogram, write_page

from audiocraft.data.audio import audio_write

OVERRIDES = (
    "transformer_lm.card=64",
    "dataset.batch_size=2",
    "dataset.segment_duration=1",
    "dataset.num_workers=0",
    "dataset.valid.num_samples=2",
    "optim.updates_per_epoch=2",
    "optim.lr=1e-3",
    "schedule.cosine.warmup=1",
    "generate.every=null",
)


@pytest.fixture
def material(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seconds of noise in each of three files, in place of jungle; one-second excerpts."""

    def make(self: demo.Demo) -> Path:
        generator = torch.Generator().manual_seed(0)
        for index in range(3):
            wav = torch.randn(1, 3 * 16000, generator=generator) * 0.1
            audio_write(self.out / "jungle" / f"track{index}", wav, 16000)
        return self.out / "jungle"

    monkeypatch.setattr(demo.Demo, "_make_material", make)
    monkeypatch.setattr(demo, "EXCERPT_SECONDS", 1.0)
    monkeypatch.setattr(demo, "PROMPT_SECONDS", 0.4)


def test_demo_twice(
    material: None, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)
    arguments = ["--out", "outputs/demo", "--scale", "xsmall", "--epochs", "2", "--codec", str(golden / "codec_ac")]
    assert demo.main([*arguments, "device=cpu", *OVERRIDES]) == 0
    page = tmp_path / "outputs" / "demo" / "index.html"
    text = page.read_text()
    files = {path: path.stat().st_mtime_ns for path in page.parent.rglob("take_*")}
    assert len(files) == 2 * (4 + 2 + 2)
    assert "5/5" in capsys.readouterr().out

    assert demo.main([*arguments, "device=cpu", *OVERRIDES]) == 0
    assert {path: path.stat().st_mtime_ns for path in page.parent.rglob("take_*")} == files
    assert len(list((tmp_path / "outputs" / "xps").iterdir())) == 1
    assert "already there: 4 takes" in capsys.readouterr().out

    # Every sound is there, beside the page; nothing comes from the net; the numbers are the run's.
    sources = re.findall(r'<audio[^>]* src="([^"]+)"', text)
    assert len(sources) == 2 + 2 + 4 + 4
    assert all((page.parent / source).is_file() for source in sources)
    assert not re.search(r'(src|href)="(https?:|/)', text) and "{{" not in text
    assert "python -m audiocraft generate" in text and "python scripts/make_jungle.py" not in text
    assert "2 epochs of 2 steps" in text


def test_mistakes_are_one_line(material: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--out", str(tmp_path), "--codec", str(tmp_path / "none"), "--scale", "giant"]) == 2
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
