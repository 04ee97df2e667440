"""A report on sound as text."""

from collections.abc import Callable

from ..utils.tables import cell, text_table
from .sound import MATERIAL, MEASURES, TAKES, Group, SoundReport

_LEGEND = "medians over takes, and over pieces of 10 s of the rest. What each measure means: docs/SOUND.md"
_DISTANCES = (
    "distance: Fréchet, of timbre and rhythm; the material's own is what a perfect model would come to.",
    "difference: between takes, in deviations within the material; takes that are all alike have 0.",
)
_COPIED = "copied: share of seconds whose codes are those of a second of the material."
_TOO_LITTLE = "the material is shorter than 30 s: too little to tell distances"
# Decimals, and where a group has it.
COMPARED: dict[str, tuple[int, Callable[[Group], float | None]]] = {
    "distance from material": (1, lambda group: group.distance.all if group.distance else None),
    "distance of timbre": (1, lambda group: group.distance.timbre if group.distance else None),
    "distance of rhythm": (1, lambda group: group.distance.rhythm if group.distance else None),
    "difference between them": (2, lambda group: group.difference),
    "copied, share": (3, lambda group: group.copied),
}


def table(report: SoundReport, verbose: bool = False) -> str:
    """Groups side by side; with `verbose` also every take."""
    groups = report.groups
    parts = []
    for name, group in groups.items():
        minutes, seconds = divmod(round(sum(sound.seconds for sound in group.sounds)), 60)
        parts.append(f"{name}: {len(group.sounds)}, {minutes}:{seconds:02d} min")
    medians = [report.medians(name) for name in groups]
    rows = [[one.title, *(cell(values[key], one.decimals) for values in medians)] for key, one in MEASURES.items()]
    rows += [
        [title, *(cell(of(group), decimals) for group in groups.values())]
        for title, (decimals, of) in COMPARED.items()
        if any(of(group) is not None for group in groups.values())
    ]
    sections = ["; ".join(parts), text_table(["", *groups], rows, least=10)]
    if verbose:
        sections.append(_take_table(report))
    return "\n\n".join([*sections, "\n".join(_legend(report))])


def _legend(report: SoundReport) -> list[str]:
    lines = [_LEGEND]
    if MATERIAL in report.groups:
        lines += _DISTANCES if report.groups[MATERIAL].distance is not None else [_TOO_LITTLE]
    return lines + [_COPIED] * bool(report.copied)


def _take_table(report: SoundReport) -> str:
    rows = []
    for i, take in enumerate(report.groups[TAKES].sounds):
        cells = [cell(take.values[key], one.decimals) for key, one in MEASURES.items()]
        rows.append([take.name, *cells, *(cell(share, 3) for share in report.copied[i : i + 1])])
    heads = ["", *(key.split("_")[0] for key in MEASURES), *["copied"] * bool(report.copied)]
    return text_table(heads, rows, least=10, gap=1)
