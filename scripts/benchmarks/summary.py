"""Lines of a record → medians, spreads and floors: what the table and the figure say."""

import json
import statistics
import typing as tp
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from audiocraft.utils import tables

from . import ROOT
from .facts import BYTES
from .record import Record, newest

cell = partial(tables.cell, none="")
PHASES = ("imports", "load", "lm", "decode", "write")
PEER_FILE = ROOT / "assets" / "bench" / "peer.jsonl"


@dataclass
class Row:
    """One way to play one model: medians over its runs, in seconds."""

    model: str
    batch: int
    engine: str
    seconds: float
    phases: dict[str, float]
    totals: list[float]
    precision: str = "float32"
    weights: str = "random"
    first: float | None = None
    warm: dict[str, float] = field(default_factory=dict)
    peak_mib: float | None = None
    vram_mib: float | None = None
    floor_lm: float | None = None
    floor_decode: float | None = None
    steps: int | None = None
    recorded: bool = False

    @property
    def total(self) -> float:
        """Median seconds from the start of the process to clips on disk."""
        return statistics.median(self.totals)

    @property
    def real_time(self) -> float:
        """Seconds of sound made per second."""
        return self.batch * self.seconds / self.total


@dataclass
class Summary:
    """Rows in the order in which models and engines were measured, and what to say of them all.

    Attributes:
        text_tokens: of the models that were given a text, how long it is.
    """

    rows: list[Row]
    machine: str
    device: str
    commits: list[str]
    versions: dict[str, str]
    dates: list[str]
    speed: dict[str, float]
    text_tokens: dict[str, int]

    @property
    def models(self) -> list[str]:
        """Names in order."""
        return list(dict.fromkeys(row.model for row in self.rows if not row.recorded))

    @property
    def batches(self) -> list[int]:
        """Numbers of clips, ascending."""
        return sorted({row.batch for row in self.rows if not row.recorded})


def summarise(records: tp.Sequence[Record]) -> Summary:
    """Medians of the newest measurements of each case, on the machine of the last line.

    Raises:
        SystemExit: there is no measurement among the records.
    """
    played = [record for record in records if record["what"] == "play"]
    if not played:
        raise SystemExit("error: the record holds no measurement; run python scripts/bench.py")
    last = played[-1]
    played = [r for r in played if r["machine"] == last["machine"] and r["where"] == last["where"]]
    played = newest(played, "model", "weights", "engine", "batch", "seconds")
    first: dict[tuple, list[float]] = defaultdict(list)
    for record in records:
        if record["what"] == "first":
            first[_case(record)].append(record["first_audio"])
    speed = _best_speed([r for r in records if (r["machine"], r.get("device")) == (last["machine"], last["where"])])
    facts = {(r["model"], r["weights"]): r["facts"] for r in records if r["what"] == "model"}
    groups: dict[tuple, list[Record]] = defaultdict(list)
    for record in played:
        groups[_case(record)].append(record)
    rows = [
        _row(group, first.get(case, []), speed, facts.get((group[0]["model"], group[0]["weights"]), {}))
        for case, group in groups.items()
    ]
    return Summary(
        rows=rows,
        machine=last["machine"],
        device=last.get("device") or last["where"],
        commits=list(dict.fromkeys(record["commit"] for record in played)),
        versions=last["versions"],
        dates=list(dict.fromkeys(record["date"][:10] for record in played)),
        speed=speed,
        text_tokens={r["model"]: r["text_tokens"] for r in played if "text_tokens" in r},
    )


def _best_speed(records: list[Record]) -> dict[str, float]:
    """The most that was ever measured of this machine: what it gave less was taken by others."""
    speed: dict[str, float] = {}
    for record in records:
        if record["what"] == "machine":
            speed |= {name: max(value, speed.get(name, 0.0)) for name, value in record["speed"].items()}
    return speed


def _case(record: Record) -> tuple:
    keys = ("session", "machine", "where", "model", "weights", "engine", "batch", "seconds")
    return tuple(record[key] for key in keys)


def _row(group: list[Record], first: list[float], speed: dict[str, float], facts: dict[str, tp.Any]) -> Row:
    """Medians of the runs of one case."""
    one = group[0]
    warm = [record["warm"] for record in group if "warm" in record]
    streamed = first or [record["first_audio"] for record in group if "first_audio" in record]
    row = Row(
        model=one["model"],
        batch=one["batch"],
        engine=one["engine"],
        seconds=one["seconds"],
        phases={phase: statistics.median(r["phases"].get(phase, 0.0) for r in group) for phase in PHASES},
        totals=[record["total"] for record in group],
        precision=one.get("precision", "float32"),
        weights=one["weights"],
        first=statistics.median(streamed) if streamed else None,
        warm={key: statistics.median(w[key] for w in warm) for key in warm[0]} if warm else {},
        peak_mib=_highest(group, "peak_mib"),
        vram_mib=_highest(group, "vram_mib"),
    )
    if facts:
        frames = int(row.seconds * facts["frame_rate"] + 1e-6)
        row.steps = frames + facts["extra_steps"]
        if "GB/s" in speed:
            weight_bytes = facts["numbers_per_step"] * BYTES.get(row.precision, 4)
            row.floor_lm = row.steps * weight_bytes / (speed["GB/s"] * 1e9)
        if "GFLOP/s float32" in speed:
            row.floor_decode = row.batch * row.seconds * facts["decoder_flops"] / (speed["GFLOP/s float32"] * 1e9)
    return row


def _highest(group: list[Record], key: str) -> float | None:
    return max((record[key] for record in group if key in record), default=None)


def peer_rows(path: Path = PEER_FILE) -> list[Row]:
    """The peer's cold starts, as recorded once; see `assets/bench/README.md`."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if not record["what"].startswith("cold boot"):
            continue
        phases = {"imports": record["import"], **{phase: record[phase] for phase in ("load", "lm", "decode")}}
        rows.append(
            Row(
                model="micro" if record["model"].startswith("micro") else "small",
                batch=record["batch"],
                engine="audiocraft 1.3.0",
                seconds=record["seconds"],
                phases=phases,
                totals=[record["total"]],
                # The record is in MB.
                peak_mib=record["peak_rss_MB"] * 1e6 / 2**20,
                recorded=True,
            )
        )
    return rows


def table(rows: tp.Sequence[Row]) -> str:
    """All numbers as text: seconds, medians; of the total also the best and the worst run."""
    head = ["model", "batch", "engine", "n", "imports", "load", "LM", "decode", "total", "best–worst", "first", "warm"]
    head += ["× rt", "step/floor, ms", "decode floor", "MiB", "GPU, MiB"]
    return tables.text_table(head, [_cells(row) for row in rows], left=(0, 2))


def _cells(row: Row) -> list[str]:
    step = ""
    if row.steps and row.floor_lm is not None:
        step = f"{1e3 * row.phases['lm'] / row.steps:.1f}/{1e3 * row.floor_lm / row.steps:.1f}"
    engine = f"{row.engine} ({'recorded' if row.recorded else row.precision})"
    return [
        *(row.model, str(row.batch), engine, str(len(row.totals))),
        *(cell(row.phases[phase]) for phase in PHASES[:4]),
        *(cell(row.total), f"{min(row.totals):.2f}–{max(row.totals):.2f}"),
        *(cell(row.first), cell(row.warm.get("total")), cell(row.real_time), step, cell(row.floor_decode)),
        *(cell(row.peak_mib, 0), cell(row.vram_mib, 0)),
    ]
