"""A report on sound as text."""

from collections.abc import Callable

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
    titles = [measure.title for measure in MEASURES.values()]
    first = max(len(title) for title in (*titles, *COMPARED))
    widths = [max(10, len(name)) for name in groups]

    def row(title: str, values: list[str]) -> str:
        return f"{title:{first}}" + "".join(f"  {value:>{width}}" for value, width in zip(values, widths))

    medians = [report.medians(name) for name in groups]
    lines = [row("", list(groups))]
    for key, one in MEASURES.items():
        lines.append(row(one.title, [_text(values[key], one.decimals) for values in medians]))
    compared = [
        row(title, [_text(of(group), decimals) for group in groups.values()])
        for title, (decimals, of) in COMPARED.items()
        if any(of(group) is not None for group in groups.values())
    ]
    sections = ["; ".join(parts), "\n".join(lines + compared)]
    if verbose:
        sections.append("\n".join(_take_rows(report)))
    return "\n\n".join([*sections, "\n".join(_legend(report))])


def _legend(report: SoundReport) -> list[str]:
    lines = [_LEGEND]
    if MATERIAL in report.groups:
        lines += _DISTANCES if report.groups[MATERIAL].distance is not None else [_TOO_LITTLE]
    return lines + [_COPIED] * bool(report.copied)


def _take_rows(report: SoundReport) -> list[str]:
    takes = report.groups[TAKES].sounds
    width = max(len(take.name) for take in takes)
    heads = [key.split("_")[0] for key in MEASURES] + ["copied"] * bool(report.copied)
    lines = [f"{'':{width}}" + "".join(f" {head:>10}" for head in heads)]
    for i, take in enumerate(takes):
        cells = [_text(take.values[key], one.decimals) for key, one in MEASURES.items()]
        cells += [_text(share, 3) for share in report.copied[i : i + 1]]
        lines.append(f"{take.name:{width}}" + "".join(f" {cell:>10}" for cell in cells))
    return lines


def _text(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"
