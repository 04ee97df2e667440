"""What is copied, from which strictness on, and the page that plays it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from audiocraft.metrics.copied import Closest, Material
from audiocraft.metrics.fingerprint import FRAMES, Fingerprints, fingerprint
from audiocraft.metrics.novelty import HELD_OUT, LIKENESS, MOST_LIKENESS, TAKES, Trace, judge, trace
from audiocraft.metrics.novelty_page import Pair, table, told, write_page

RATE = 32000


def made(likeness: np.ndarray, codes: np.ndarray | None = None, audible: np.ndarray | None = None) -> Trace:
    """A trace of such windows; each lies a second later in the material's only file."""
    count = len(likeness)
    frame = np.arange(count) + FRAMES
    by_codes = None if codes is None else Closest(codes, np.where(codes > 0, 0, -1), frame)
    found = Closest(likeness, np.zeros(count, dtype=np.int64), frame)
    return Trace(
        "take", count / FRAMES + 1, by_codes, found, np.ones(count, dtype=bool) if audible is None else audible
    )


def test_shares_and_stretches() -> None:
    likeness, codes = np.full(200, 0.4), np.zeros(200)
    likeness[20:40], codes[35:60], likeness[120] = 0.85, 0.96, 0.92
    report = judge([made(likeness, codes), made(np.full(100, 0.3), np.zeros(100))])
    assert report.copied(TAKES) == pytest.approx(41 / 300) and report.copied(TAKES, 0) == 41 / 200
    assert report.copied(TAKES, 1) == 0 and report.longest(TAKES, 1) == 0
    assert report.longest(TAKES) == pytest.approx(39 / FRAMES + 1)
    assert report.shares(TAKES, "sound") == {0.7: 21 / 300, 0.8: 21 / 300, 0.9: 1 / 300, 0.95: 0}
    assert report.shares(TAKES, "codes") == {0.8: 25 / 300, 0.9: 25 / 300, 1.0: 0}
    assert sum(report.histogram(TAKES)) == pytest.approx(1)
    assert report.histogram(TAKES)[16] == pytest.approx(179 / 300)
    first, second, third = report.worst(3)
    assert (first.take, first.copied, first.agreement) == (0, pytest.approx(39 / FRAMES + 1), 0.96)
    assert first.at == pytest.approx(first.start + 1) and 35 / FRAMES <= first.start < 60 / FRAMES
    assert (second.start, second.copied, second.agreement) == (120 / FRAMES, 1, None)
    assert third.copied == 0 and "copied" not in told(third, "a", "b") and "copied" in told(first, "a", "b")
    json.dumps(report.record(), allow_nan=False)


def test_held_out_music_is_the_scale() -> None:
    takes = [made(np.array([0.3, 0.72, 0.8, 0.9]), np.array([0, 0.8, 0.84, 0.9]))]
    assert judge(takes).from_likeness == LIKENESS and judge(takes).copied(TAKES) == 0.75
    low = judge(takes, [made(np.linspace(0, 0.5, 100), np.zeros(100))])
    assert (low.from_likeness, low.from_codes) == (LIKENESS, 0.8) and low.copied(HELD_OUT) == 0
    high = judge(takes, [made(np.linspace(0, 0.75, 1000), np.where(np.arange(1000) < 30, 0.84, 0))])
    assert LIKENESS < high.from_likeness < 0.8 and high.from_codes == 0.85
    assert high.copied(HELD_OUT) <= 0.01 and high.copied(TAKES) == 0.5 and not high.notes
    same = judge(takes, [made(np.full(100, 0.99), np.ones(100))])
    assert same.from_likeness == MOST_LIKENESS and "the two share recordings" in same.notes[0]


def test_what_cannot_be_heard_does_not_count() -> None:
    audible = np.arange(100) < 40
    report = judge([made(np.where(audible, 0.2, 0.99), None, audible)])
    assert report.copied(TAKES) == 0 and report.worst(5)[0].likeness == 0.2
    silent = judge([made(np.full(50, 0.99), None, np.zeros(50, dtype=bool))])
    assert silent.copied(TAKES) is None and silent.longest(TAKES) == 0 and silent.worst(5) == []
    assert "–" in table(silent) and silent.record()[TAKES]["copied"] is None


@pytest.mark.parametrize("rate", [75, 50, 25, 10])
def test_codes_of_any_frame_rate(rate: int) -> None:
    """A take is 3 s that are nowhere, then 2 s of the material from 4 s on."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2048, 10 * rate)
    take = np.concatenate([rng.integers(0, 2048, 3 * rate), codes[4 * rate : 6 * rate]])
    wav = 0.1 * torch.randn(1, 5 * RATE, generator=torch.Generator().manual_seed(0))
    found = trace("take", wav, Fingerprints([]), take, Material([codes], window=rate))
    assert found.codes is not None and len(found.codes.likeness) == 4 * FRAMES + 1
    copied = found.codes.likeness >= 0.8
    assert not copied[: round(2.7 * FRAMES)].any() and copied[3 * FRAMES :].all() and found.audible.all()
    assert found.codes.item[-1] == 0 and found.codes.frame[3 * FRAMES] == 4 * FRAMES
    assert judge([found]).worst(1)[0].at == pytest.approx(judge([found]).worst(1)[0].start + 1)


def test_the_page_is_alone(tmp_path: Path) -> None:
    wav = 0.1 * torch.randn(1, 3 * RATE, generator=torch.Generator().manual_seed(0))
    prints = Fingerprints([fingerprint([wav], RATE)])
    report = judge([trace("<take>", wav[:, 500:], prints)], [trace("new", wav.flip(1), prints)])
    pairs = [Pair(case, "<take>", "a & b", wav[:, :RATE], wav) for case in report.worst(2)]
    write_page(report, pairs, "T", "facts", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 2 * len(pairs) == page.count("data:audio/wav;base64,")
    assert page.count("<img") == page.count("data:image/png;base64,")
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert not re.search(r"https?:|url\(|@import|<script", page)
    assert "&lt;take&gt;" in page and "a &amp; b" in page and "<take>" not in page
    assert "100.0 % of the seconds are copied" in page
