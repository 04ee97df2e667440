"""Choosing settings of the sampler: what the score thinks of takes, and which settings are tried."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.metrics.copied import Material
from audiocraft.metrics.sound import MATERIAL, MEASURES, TAKES, Sound, compare, measure
from audiocraft.metrics.sound_features import RATE
from audiocraft.metrics.tuning import (
    COPIED_FREELY,
    FIRST,
    MOST_TRIALS,
    WEIGHT,
    amiss,
    figures,
    ranked,
    search,
    told,
    written,
)
from audiocraft.utils.takes import Sampling, chosen

FINE = {"distance": 2.0, "beat": 0.4, "repetition": 0.2, "difference": 1.0, "copied": None, "silence": 0.1}


@pytest.mark.parametrize(
    ("key", "fine", "bad", "expected"),
    [
        ("distance", 1.0, 2 * math.e, 1.0),
        ("beat", 0.5, 0.1, WEIGHT * 0.75),
        ("beat", 0.4, None, WEIGHT),
        ("repetition", 0.1, 0.6, WEIGHT * 0.5),
        ("difference", 1.3, 0.0, WEIGHT),
        ("copied", COPIED_FREELY, 1.0, WEIGHT),
        ("silence", 0.0, 1.0, WEIGHT),
    ],
)
def test_each_term_is_nothing_where_all_is_well(key: str, fine: float, bad: float | None, expected: float) -> None:
    """It grows with what is wrong, and no other one does."""
    assert not any(amiss({**FINE, key: fine}, FINE).values())
    found = amiss({**FINE, key: bad}, FINE)
    assert found.pop(key) == pytest.approx(expected) and not any(found.values())


def test_a_material_without_beat_or_change_asks_for_none() -> None:
    material = {**FINE, "beat": None, "difference": 0.0, "silence": 1.0, "repetition": 1.0, "distance": 0.0}
    assert not any(amiss({**FINE, "distance": 0.0}, material).values())


@cache
def heard(kind: str, seed: int) -> Sound:
    """Five seconds: hits at 150 BPM on notes drawn by seed, with quiet gaps; noise; or nothing."""
    rng, time = np.random.default_rng(seed), np.arange(5 * RATE) / RATE
    noise = rng.standard_normal(len(time))
    pitch = 200 * 2 ** (rng.integers(0, 24, 25) / 12)
    notes = np.sin(2 * np.pi * pitch[(time / 0.2).astype(int)] * time)
    hits = (0.2 * noise + 0.2 * notes) * np.exp(-rng.uniform(10, 25) * (time % 0.4))
    wave = {"hits": hits, "noise": 0.1 * noise, "nothing": 0 * noise}[kind]
    codes = np.random.default_rng(seed).integers(0, 50, (4, 250))
    return measure(torch.from_numpy(wave)[None].float(), codes=torch.from_numpy(codes))


def score(takes: list[Sound]) -> tuple[float, dict[str, float]]:
    material = [heard("hits", seed) for seed in range(8)]
    index = Material([sound.codes for sound in material if sound.codes is not None])
    report = compare(takes, material, trained_on=index)
    terms = amiss(figures(report, TAKES), figures(report, MATERIAL))
    return sum(terms.values()), terms


def test_what_the_score_prefers() -> None:
    """New music of the kind comes before copies, one take again and again, noise, and takes half of which are empty."""
    good, terms = score([heard("hits", 100 + seed) for seed in range(4)])
    assert good < 1 and terms["copied"] == terms["silence"] == 0
    copies, terms = score([heard("hits", seed) for seed in range(4)])
    assert terms["copied"] == pytest.approx(WEIGHT) and copies > good + 1
    alike, terms = score([heard("hits", 100)] * 4)
    assert terms["difference"] == pytest.approx(WEIGHT, abs=1e-6) and alike > good + 2
    noises, terms = score([heard("noise", seed) for seed in range(100, 104)])
    assert terms["beat"] > WEIGHT / 2 and terms["distance"] > 2 and noises > good + 4
    half, terms = score([heard(kind, 100 + seed) for seed in range(2) for kind in ("hits", "nothing")])
    assert terms["silence"] > 0.2 * WEIGHT and half > good + 1


def made(name: str, seed: int, off: float) -> Sound:
    """A sound of drawn features, `off` those of the material."""
    rng = np.random.default_rng(seed)
    return Sound(name, 10.0, dict.fromkeys(MEASURES, 0.4), rng.standard_normal((4, 40)) + off)


class Rigged:
    """A model that comes nearest at a setting."""

    def __init__(self, best: Sampling) -> None:
        self.best, self.played = best, []

    def __call__(self, sampling: Sampling) -> list[Sound]:
        self.played.append(sampling)
        off = [abs(getattr(sampling, key) - getattr(self.best, key)) for key in ("temperature", "cool", "min_p")]
        off.append(abs(sampling.repetition - self.best.repetition) / 10 + (sampling.top_k != self.best.top_k))
        return [made("", seed, 5 * sum(off)) for seed in range(100, 116)]


EXCERPTS = [made("", seed, 0.0) for seed in range(24)]


@pytest.mark.parametrize(
    "best",
    [
        FIRST[0],
        FIRST[6],
        Sampling(temperature=0.6, min_p=0.05, cool=0.95),  # two knobs away from what is tried first
        Sampling(temperature=0.9, min_p=0.05, cool=0.95, repetition=1.5),
    ],
)
def test_the_best_setting_is_found(best: Sampling) -> None:
    rigged = Rigged(best)
    trials = list(search(rigged, EXCERPTS))
    assert ranked(trials)[0].sampling == best
    assert [trial.sampling for trial in trials] == rigged.played
    assert len(set(rigged.played)) == len(trials) and 10 <= len(trials) <= MOST_TRIALS
    scores = [trial.score for trial in ranked(trials)]
    assert scores == sorted(scores)
    assert all(trial.sampling.cool <= 1.3 and trial.sampling.repetition >= 0 for trial in trials)
    assert [trial.record() for trial in search(Rigged(best), EXCERPTS)] == [trial.record() for trial in trials]


def test_the_models_own_setting_is_tried() -> None:
    own = {"temperature": 1.3, "top_p": 0.9}
    rigged = Rigged(Sampling())
    trials = list(search(rigged, EXCERPTS, own=own))
    assert rigged.played[len(FIRST)] == Sampling(temperature=1.3, top_p=0.9) and len(trials) <= MOST_TRIALS


@pytest.mark.parametrize("own", [{}, {"temperature": 0.5, "top_p": 0.9, "cool": 0.7}])
def test_what_is_told_is_played(own: dict) -> None:
    """However the model was to play before."""
    for sampling in (*FIRST, Sampling(temperature=0.7, top_k=0, top_p=0.5)):
        assert chosen(told(sampling, own), own) == sampling
    assert written(Sampling()) == "temperature=1"
    assert written(FIRST[7]) == "temperature=0.8,min_p=0.05,cool=0.9"
    assert written(Sampling(), own) == f"temperature=1{',top_p=0,cool=1' * bool(own)}"


def test_too_little_material() -> None:
    for few in (EXCERPTS[:2], [made("", 0, 0.0)], []):
        with pytest.raises(UserError, match=rf"too little to tell .*{10 * len(few)} s.*; give 30 s or more"):
            next(search(Rigged(Sampling()), few))
