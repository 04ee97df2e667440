"""How takes sound, alone and beside the material that a model was trained on.

`describe` says it of one wave, `measure` makes a `Sound` of it, and `compare` holds groups of them together:

    takes = [measure(wav, codes=codes) for wav, codes in played]
    report = compare(takes, material=[measure(wav) for wav in excerpts])
    report.groups[TAKES].distance.all, report.medians(TAKES)["beat"]

Nothing here reads files (`sound_files` does), so that takes need not be written to be judged. Waves are mono [1, T] at
32 kHz.
"""

import math
import statistics
import typing as tp
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from ..utils.rhythm import beat_and_lag, bpm, onset_curve
from .copied import Codes, Material, copied_windows
from .hearing import magnitudes
from .sound_features import (
    FRAMES,
    HOP,
    RATE,
    RHYTHM,
    SILENT_DB,
    SIZE,
    TIMBRE,
    Whitening,
    frechet_distance,
    levels_db,
    onsets,
    repetition,
    window_features,
)

TAKES, MATERIAL = "takes", "material"
CLEAR_BEAT = 0.15  # below, no tempo is told: noise comes to 0.1
LOW_HZ, LOWEST_HZ = 150.0, 20.0
FEWEST_WINDOWS = 12  # of a material (30 s) that a distance from it can be told
_LEVEL_BLOCK = RATE // 20
_DRAWS = 8

Values = dict[str, float | None]


class Measure(tp.NamedTuple):
    """One of the values of `describe`: its name and unit for people, and how many decimals it is worth."""

    title: str
    decimals: int


MEASURES = {
    "beat": Measure("beat, 0 to 1", 2),
    "tempo_bpm": Measure("tempo, BPM", 1),
    "onsets_per_second": Measure("onsets per second", 1),
    "repetition": Measure("self-repetition, share", 2),
    "level_db": Measure("level, dBFS", 1),
    "dynamics_db": Measure("dynamics, dB", 1),
    "silence": Measure("silence, share of time", 2),
    "centroid_hz": Measure("brightness, Hz", 0),
    "flatness": Measure("noisiness, 0 to 1", 3),
    "low_end_db": Measure("below 150 Hz, dB", 1),
}


def describe(wav: torch.Tensor) -> Values:
    """What can be said of one wave [1, T], the keys of MEASURES; None where it is too short or too quiet to say.

    beat: highest normalised autocorrelation of the onset curve (`rhythm.onset_curve`) at lags of 0.15 to 0.8 s.
    tempo_bpm: that lag, between frames by a parabola, as beats per minute between 90 and 180.
    onsets_per_second, repetition: `sound_features.onsets`, `.repetition`.
    level_db: RMS. dynamics_db: between the 95th and the 10th percentile of levels of 50 ms, above -60 dBFS.
    silence: share of these levels below -60 dBFS.
    centroid_hz, flatness: magnitude-weighted mean frequency, and geometric over arithmetic mean of powers from 20 Hz
        on, means over frames of 32 ms that sound (Peeters 2004, "A large set of audio features").
    low_end_db: energy between 20 and 150 Hz over all from 20 Hz on.

    Raises:
        ValueError: it is no wave [1, T] of a sample or more.
    """
    if wav.dim() != 2 or wav.shape[0] != 1 or wav.shape[1] == 0:
        raise ValueError(f"a mono wave [1, T] is needed, not {list(wav.shape)}")
    wav = wav.detach().float().cpu()
    curve = onset_curve(wav, RATE)
    beat, tempo = beat_and_tempo(curve)
    levels = levels_db(wav, _LEVEL_BLOCK)
    heard = levels.clamp(min=SILENT_DB)
    dynamics = float(heard.quantile(0.95) - heard.quantile(0.1))
    centroid, flatness = _colour(wav)
    return {
        "beat": beat,
        "tempo_bpm": tempo,
        "onsets_per_second": len(onsets(curve)) * FRAMES / len(curve) if len(curve) else 0.0,
        "repetition": repetition(wav),
        "level_db": float(levels_db(wav, wav.shape[1])),
        "dynamics_db": dynamics,
        "silence": float((levels < SILENT_DB).float().mean()),
        "centroid_hz": centroid,
        "flatness": flatness,
        "low_end_db": _low_end(wav),
    }


def beat_and_tempo(curve: np.ndarray) -> tuple[float | None, float | None]:
    """Beat and tempo (BPM) of an onset curve [frames], 100 frames a second; see `describe`."""
    beat, period = beat_and_lag(curve)
    if math.isnan(period):
        return None, None
    return beat, bpm(period) if beat >= CLEAR_BEAT else None


def _colour(wav: torch.Tensor) -> tuple[float | None, float | None]:
    """Centroid in Hz and flatness."""
    spectrum = magnitudes(wav, SIZE, HOP)
    hz = torch.arange(len(spectrum)) * (RATE / SIZE)
    # Parseval: the mean square of a frame under its window, which passes 3/8 of it.
    power = 2 * spectrum.square().sum(0) / (SIZE * 0.375 * SIZE)
    sounding = spectrum[:, 10 * torch.log10(power + 1e-12) > SILENT_DB][1:]
    if sounding.shape[1] == 0:
        return None, None
    centroid = (hz[1:, None] * sounding).sum(0) / sounding.sum(0)
    powers = sounding.square() + 1e-9
    flatness = powers.log().mean(0).exp() / powers.mean(0)
    return float(centroid.mean()), float(flatness.mean())


def _low_end(wav: torch.Tensor) -> float | None:
    power = torch.fft.rfft(wav[0].double()).abs().square()
    hz = torch.arange(len(power)) * (RATE / wav.shape[1])
    whole = float(power[hz >= LOWEST_HZ].sum())
    low = float(power[(hz >= LOWEST_HZ) & (hz < LOW_HZ)].sum())
    if whole / wav.shape[1] ** 2 < 10 ** (SILENT_DB / 10) / 2:
        return None
    return 10 * math.log10(low / whole + 1e-8)


@dataclass
class Sound:
    """One take or excerpt: its values, its features [windows, 40], and where it was coded its codes [K, F] and which
    frames [F] of them can be heard."""

    name: str
    seconds: float
    values: Values
    features: np.ndarray
    codes: Codes | None = None
    audible: np.ndarray | None = None


def measure(wav: torch.Tensor, name: str = "", codes: Codes | None = None) -> Sound:
    """A sound of wav [1, T] and of its codes [K, F], if there are any.

    Raises:
        ValueError: as `describe`.
    """
    values = describe(wav)
    wav = wav.detach().float().cpu()
    sound = Sound(name, wav.shape[1] / RATE, values, window_features(wav), codes)
    if codes is not None:
        frames = codes.shape[-1]
        heard = levels_db(wav, -(-wav.shape[1] // frames)).numpy() > SILENT_DB
        sound.audible = np.pad(heard, (0, frames - len(heard)))
    return sound


@dataclass
class Distance:
    """Fréchet distances of whitened features: of all, of those of timbre, of those of rhythm."""

    all: float
    timbre: float
    rhythm: float


@dataclass
class Group:
    """Sounds that belong together, and how they stand to the material.

    `distance` of the material itself is that of as many of its excerpts as there are takes from the others, mean over
    draws: what a perfect model comes to. `difference`: see `difference_between`. `copied`: see `copied.copied_windows`.
    """

    sounds: list[Sound]
    distance: Distance | None = None
    difference: float | None = None
    copied: float | None = None


@dataclass
class SoundReport:
    """What `compare` found, by names of groups: the takes first, then the material and what else was given."""

    groups: dict[str, Group]
    copied: list[float | None] = field(default_factory=list)  # of each take

    def medians(self, group: str) -> Values:
        """Of each measure the median over a group's sounds that have it."""
        found: Values = {}
        for key in MEASURES:
            values = [value for sound in self.groups[group].sounds if (value := sound.values[key]) is not None]
            found[key] = statistics.median(values) if values else None
        return found

    def record(self) -> dict[str, tp.Any]:
        """Everything as plain values."""
        record: dict[str, tp.Any] = {}
        for name, group in self.groups.items():
            record[name] = {
                "seconds": round(sum(sound.seconds for sound in group.sounds), 2),
                "median": _rounded(self.medians(name)),
                "distance": None if group.distance is None else _rounded(asdict(group.distance)),
                **_rounded({"difference": group.difference, "copied": group.copied}),
                "sounds": [
                    {"name": sound.name, "seconds": round(sound.seconds, 3), **_rounded(sound.values)}
                    for sound in group.sounds
                ],
            }
        for sound, share in zip(record[TAKES]["sounds"], self.copied):
            sound |= _rounded({"copied": share})
        return record


def _rounded(values: tp.Mapping[str, float | None]) -> Values:
    return {key: None if value is None else round(value, 4) for key, value in values.items()}


def compare(
    takes: tp.Sequence[Sound],
    material: tp.Sequence[Sound] = (),
    others: tp.Mapping[str, tp.Sequence[Sound]] | None = None,
    trained_on: tp.Sequence[Codes] | Material | None = None,
) -> SoundReport:
    """Hold takes against a material.

    Args:
        takes: at least one.
        material: excerpts of what they are to sound like, best as long as the takes; distances and differences need
            30 s of it.
        others: further groups to stand beside the takes, such as held-out files.
        trained_on: codes of the whole material; of the groups whose sounds have codes, what is copied is told.
    """
    groups = {TAKES: Group(list(takes))}
    if material:
        groups[MATERIAL] = Group(list(material))
    groups |= {name: Group(list(sounds)) for name, sounds in (others or {}).items() if sounds}
    report = SoundReport(groups)
    windows = _windows(material)
    if len(windows) >= FEWEST_WINDOWS:
        whitenings = [Whitening.of(windows[:, part]) for part in _PARTS]
        scale = Whitening.of(windows).scale
        for name, group in groups.items():
            group.difference = difference_between(group.sounds, scale)
            if name != MATERIAL:
                group.distance = _distance(whitenings, _windows(group.sounds), windows)
        groups[MATERIAL].distance = _distance_of_itself(whitenings, material, len(takes))
    if trained_on is not None:
        index = trained_on if isinstance(trained_on, Material) else Material(trained_on)
        for name, group in groups.items():
            if name != MATERIAL:
                group.copied = _copied(group.sounds, index)
        report.copied = [_copied([take], index) for take in takes]
    return report


_PARTS = (slice(0, None), TIMBRE, RHYTHM)


def _windows(sounds: tp.Sequence[Sound]) -> np.ndarray:
    return np.concatenate([sound.features for sound in sounds]) if sounds else np.zeros((0, RHYTHM.stop))


def _distance(whitenings: tp.Sequence[Whitening], a: np.ndarray, b: np.ndarray) -> Distance:
    whole, timbre, rhythm = (
        frechet_distance(whiten(a[:, part]), whiten(b[:, part])) for whiten, part in zip(whitenings, _PARTS)
    )
    return Distance(whole, timbre, rhythm)


def _distance_of_itself(
    whitenings: tp.Sequence[Whitening], material: tp.Sequence[Sound], takes: int
) -> Distance | None:
    """Of as many excerpts as there are takes from the rest, mean over draws."""
    count = min(takes, len(material) // 2)
    if count == 0:
        return None
    rng, found = np.random.default_rng(0), []
    for _ in range(_DRAWS):
        order = rng.permutation(len(material))
        drawn, rest = ([material[i] for i in part] for part in (order[:count], order[count:]))
        found.append(_distance(whitenings, _windows(drawn), _windows(rest)))
    return Distance(*(statistics.fmean(getattr(one, key) for one in found) for key in ("all", "timbre", "rhythm")))


def difference_between(sounds: tp.Sequence[Sound], scale: np.ndarray) -> float | None:
    """How far sounds are from each other, mean over pairs: RMS difference of their mean features [40], each over the
    deviation `scale` [40] that it has within the material. 0 for equal sounds; None for fewer than two."""
    if len(sounds) < 2:
        return None
    means = np.stack([sound.features.mean(0) for sound in sounds]) / scale
    first, second = np.triu_indices(len(means), 1)
    return float(np.sqrt(np.square(means[first] - means[second]).mean(1)).mean())


def _copied(sounds: tp.Sequence[Sound], index: Material) -> float | None:
    coded = [sound for sound in sounds if sound.codes is not None and sound.audible is not None]
    return copied_windows([s.codes for s in coded], index, [s.audible for s in coded])  # type: ignore[misc]
