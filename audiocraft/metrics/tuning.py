"""Which settings of the sampler make a model's free takes sound most like its material.

`search` has takes played at about a dozen settings and holds each against the material (`sound.compare`); `amiss` says
what is wrong with them. Nothing is written.

    for trial in search(player(model, num=16, duration=10, seed=0), material):
        print(trial.score, written(trial.sampling))
"""

import math
import statistics
import typing as tp
from dataclasses import dataclass, replace

from ..data.audio_utils import convert_audio
from ..errors import UserError
from ..utils.takes import KNOBS, Sampling, chosen
from .copied import Material
from .sound import FEWEST_WINDOWS, MATERIAL, TAKES, Sound, SoundReport, compare, measure
from .sound_features import RATE

if tp.TYPE_CHECKING:
    from ..models.musicgen import MusicGen

Figures = dict[str, float | None]
Play = tp.Callable[[Sampling], tp.Sequence[Sound]]

# From the wild to the tame. The first codebook keeps time and is the surest: with `cool` above 1 it alone is tamed.
FIRST = (
    Sampling(),
    Sampling(top_k=500),
    Sampling(temperature=0.9, cool=1.1),
    Sampling(temperature=0.8, cool=1.15),
    Sampling(top_k=50),
    Sampling(min_p=0.02, cool=0.9),
    Sampling(temperature=0.9, min_p=0.05, cool=0.95),
    Sampling(temperature=0.8, min_p=0.05, cool=0.9),
    Sampling(temperature=0.7, min_p=0.05, cool=0.9),
)
# Then the best one's neighbours, one knob after the other: how far away, and the least and the most that is tried.
STEPS = {"temperature": (0.1, 0.3, 1.5), "cool": (0.05, 0.5, 1.3), "repetition": (1.5, 0.0, 10.0)}
MOST_TRIALS = len(FIRST) + 1 + 2 * len(STEPS)  # with the model's own

COPIED_FREELY = 0.3  # share of copied windows that costs nothing: held-out music of the same sounds has some, too
# Timbre and rhythm as a whole come first, in logarithms: what is far off is so by factors, and 50 against 60 is no more
# than 5 against 6. Each other term goes from 0 to 1, and at its worst (all takes are one, or copies, or loops) costs as
# much as a distance e² = 7 times as large: such takes may lie near the material and are still not wanted.
WEIGHT = 2.0


@dataclass(frozen=True)
class Trial:
    """A setting, `figures` of its takes, and those of the material beside them."""

    sampling: Sampling
    figures: Figures
    material: Figures

    @property
    def score(self) -> float:
        """Lower is better; 0 cannot be told from the material."""
        return sum(amiss(self.figures, self.material).values())

    def record(self) -> dict[str, tp.Any]:
        """Everything as plain values."""
        wrong = {key: round(value, 4) for key, value in amiss(self.figures, self.material).items()}
        return {"sampling": knobs(self.sampling), "score": round(self.score, 4), "amiss": wrong, **self.figures}


def figures(report: SoundReport, name: str) -> Figures:
    """What is looked at of a group: medians, but of silence the mean, as a take that is missing should count."""
    group, medians = report.groups[name], report.medians(name)
    values: Figures = {
        "distance": group.distance.all if group.distance else None,
        "beat": medians["beat"],
        "repetition": medians["repetition"],
        "difference": group.difference,
        "copied": group.copied,
        "silence": statistics.fmean(sound.values["silence"] or 0.0 for sound in group.sounds),
    }
    return {key: None if value is None else round(value, 4) for key, value in values.items()}


def amiss(takes: Figures, material: Figures) -> dict[str, float]:
    """What is wrong with takes beside their material, each 0 where nothing is; the score is the sum.

    distance: ln(d / d₀), d the takes' Fréchet distance and d₀ the material's own; 0 from d₀ down, as what comes nearer
        than the material itself is copied or due to luck.
    beat, difference: WEIGHT * (1 - x / x₀), where they fall short of the material's x₀.
    repetition, silence: WEIGHT * (x - x₀) / (1 - x₀), where they exceed it.
    copied: the same beyond COPIED_FREELY.
    """

    def short(key: str) -> float:
        wanted = material[key] or 0.0
        return WEIGHT * max(0.0, 1 - (takes[key] or 0.0) / wanted) if wanted > 0 else 0.0

    def beyond(key: str, free: float) -> float:
        return WEIGHT * max(0.0, (takes[key] or 0.0) - free) / (1 - free) if free < 1 else 0.0

    far = max(takes["distance"] or 0.0, 1e-3) / max(material["distance"] or 0.0, 1e-3)
    return {
        "distance": max(0.0, math.log(far)),
        "beat": short("beat"),
        "repetition": beyond("repetition", material["repetition"] or 0.0),
        "difference": short("difference"),
        "copied": beyond("copied", COPIED_FREELY),
        "silence": beyond("silence", material["silence"] or 0.0),
    }


def search(
    play: Play,
    material: tp.Sequence[Sound],
    trained_on: Material | None = None,
    own: tp.Mapping[str, tp.Any] | None = None,
) -> tp.Iterator[Trial]:
    """Trials as they are made, MOST_TRIALS at most: a coarse grid, the model's own setting, neighbours of the best.

    Args:
        play: gives the takes of a setting, the same ones each time; two or more.
        material: excerpts as long as the takes, 30 s in two or more.
        trained_on: codes of the whole material, so that what is copied is seen.
        own: knobs that the model comes with.

    Raises:
        UserError: there is too little material to tell.
    """
    windows = sum(len(sound.features) for sound in material)
    if windows < FEWEST_WINDOWS or len(material) < 2:
        seconds = sum(sound.seconds for sound in material)
        raise UserError(
            f"the material is too little to tell what sounds like it ({seconds:.0f} s, {len(material)} excerpts); "
            "give 30 s or more, or a shorter --duration"
        )
    trials: dict[Sampling, Trial] = {}

    def fresh(settings: tp.Iterable[Sampling]) -> tp.Iterator[Trial]:
        for sampling in settings:
            if sampling not in trials:
                report = compare(play(sampling), material, trained_on=trained_on)
                trials[sampling] = Trial(sampling, figures(report, TAKES), figures(report, MATERIAL))
                yield trials[sampling]

    yield from fresh((*FIRST, chosen({}, own or {})))
    for knob in STEPS:
        yield from fresh(_neighbours(ranked(trials.values())[0].sampling, knob))


def ranked(trials: tp.Iterable[Trial]) -> list[Trial]:
    """Best first; of equals the nearer one, then the one that was tried first."""
    return sorted(trials, key=lambda trial: (trial.score, trial.figures["distance"] or 0.0))


def _neighbours(sampling: Sampling, knob: str) -> list[Sampling]:
    step, least, most = STEPS[knob]
    values = [round(getattr(sampling, knob) + change, 6) for change in (-step, step)]
    return [replace(sampling, **{knob: value}) for value in values if least <= value <= most]


def player(model: "MusicGen", num: int, duration: float, seed: int) -> Play:
    """Has a model play `num` free takes of `duration` seconds in one batch, take i from seed + i. Its generation
    parameters are those of the last takes afterwards."""

    def play(sampling: Sampling) -> list[Sound]:
        model.set_generation_params(duration=duration, **knobs(sampling))
        wavs, codes = model.generate_unconditional(num, return_tokens=True, seed=seed)
        waves = (convert_audio(wav.cpu().float(), model.sample_rate, RATE, 1) for wav in wavs)
        return [measure(wav, f"seed {seed + i}", codes[i].cpu()) for i, wav in enumerate(waves)]

    return play


def knobs(sampling: Sampling) -> dict[str, tp.Any]:
    """A setting by names of knobs."""
    return {name: getattr(sampling, name) for name in KNOBS}


def told(sampling: Sampling, own: tp.Mapping[str, tp.Any] | None = None) -> dict[str, tp.Any]:
    """Knobs that have to be given to a model, with knobs of its `own`, to be played so: the temperature, and those
    that differ from what would be taken else or that it has."""
    usual = knobs(Sampling())
    return {
        name: value
        for name, value in knobs(sampling).items()
        if name == "temperature" or value != usual[name] or name in (own or {})
    }


def written(sampling: Sampling, own: tp.Mapping[str, tp.Any] | None = None) -> str:
    """`told` as `export --sampling` takes it."""
    return ",".join(f"{name}={value:g}" for name, value in told(sampling, own).items())
