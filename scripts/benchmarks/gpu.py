"""`bench_gpu.py`: what a GPU does with a micro model, checked and measured, and a summary of it."""

import itertools
import json
import sys
import typing as tp
from dataclasses import dataclass

from audiocraft.utils.tables import markdown

from . import ROOT, play
from .gpu_figure import Check
from .process import ProcessFailed, measured, run
from .record import Record, Session
from .summary import PHASES, Row, cell, summarise
from .weights import find_model

PRECISIONS = ("auto", "float32")
_SHARE_OF_CHECKS = 0.4  # of the time
TRAIN_PRECISIONS = ("bfloat16", "float16", "float32")


@dataclass
class GpuPlan(play.Plan):
    """What to measure, of one scale; see `bench_gpu.py --help`."""

    train_batch: int
    minutes: float = 10.0

    @property
    def scale(self) -> str:
        """The one model."""
        return self.models[0]


def measure(plan: GpuPlan) -> bool:
    """Check and measure, each part in a process of its own; a part that fails is told and left out.

    Returns:
        Whether all checks passed and all was measured.
    """
    session = Session(plan.out / "gpu.jsonl", device=plan.device)
    good = [_check(plan, session)]
    try:
        model = find_model(plan.scale, plan.weights, plan.out / "weights").path
    except ProcessFailed as error:
        print(f"skipped: all but the checks: {error}")
        session.note("missing", name="all but the checks", why=str(error))
        return False
    device = plan.device
    good.append(_measure_part("machine", {}, session, "facts.measure_machine", device=device))
    # Graphs are CUDA's; elsewhere there is one way only.
    graphs = (True, False) if device.startswith("cuda") else (False,)
    for asked, batch, graph in itertools.product(PRECISIONS, plan.batches, graphs):
        facts = {"model": plan.scale, "batch": batch, "way": "graphs" if graph else "eager", "asked": asked}
        how = {"model": model, "device": device, "precision": asked, "batch": batch, "graphs": graph}
        good.append(_measure_part("step", facts, session, "steps.decode", **how))
    for precision in TRAIN_PRECISIONS if device.startswith("cuda") else ("float32",):
        how = {"batch": plan.train_batch, "seconds": plan.seconds, "precision": precision}
        facts = {"model": plan.scale, **how}
        good.append(_measure_part("train", facts, session, "steps.train", scale=plan.scale, device=device, **how))
    try:
        play.measure(plan)
    except SystemExit as error:
        session.note("missing", name="clips from process start to files", why=str(error).removeprefix("error: "))
        good.append(False)
    return all(good)


def _check(plan: GpuPlan, session: Session) -> bool:
    """Run `check_gpu.py` and keep what it says."""
    print("… checks", flush=True)
    command = [sys.executable, str(ROOT / "scripts" / "check_gpu.py"), "--device", plan.device]
    command += ["--out", str(plan.out), "--minutes", str(plan.minutes * _SHARE_OF_CHECKS)]
    found = plan.out / "check_gpu.json"
    found.unlink(missing_ok=True)
    try:
        run(command, accepted=(0, 1))  # 1: a check failed, and the table says which
        checks = [Check(**each) for each in json.loads(found.read_text(encoding="utf-8"))["checks"]]
    except (ProcessFailed, OSError) as error:
        checks = [
            Check("check_gpu", False, f"it broke off: {error}", 0.0, "check_gpu.py itself fails; please report it.")
        ]
    session.note("checks", checks=[vars(check) for check in checks])
    print("\n".join(f"{check.word:4} {check.title:13} {check.told}" for check in checks))
    return not any(check.good is False for check in checks)


def _measure_part(what: str, facts: dict[str, tp.Any], session: Session, function: str, **arguments: tp.Any) -> bool:
    """Write down what a function says of a case; whether it could be had."""
    name = ", ".join([what, *map(str, facts.values())])
    print(f"… {name}", end="", flush=True)
    try:
        result = measured(function, **arguments)
    except ProcessFailed as error:
        print(f"\nskipped: {name}: {error}")
        session.note("missing", name=name, why=str(error))
        return False
    session.note(what, **{**facts, **(result if what != "machine" else {"speed": result})})
    print(f": {result['step_s'] * 1e3:.3f} ms" if "step_s" in result else "")
    return True


def last_session(records: tp.Sequence[Record]) -> list[Record]:
    """What was measured last in one go."""
    return [record for record in records if record["session"] == records[-1]["session"]]


def wrong(session: tp.Sequence[Record]) -> list[str]:
    """In plain words, what is wrong with a GPU or could not be found out."""
    checks = [Check(**each) for record in session if record["what"] == "checks" for each in record["checks"]]
    missing = [record for record in session if record["what"] == "missing"]
    return [
        *(f"{check.title}: {check.means} ({check.told})" for check in checks if check.good is False),
        *(f"{check.title} was not checked: {check.told}" for check in checks if check.good is None),
        *(f"{record['name']} was not measured: {record['why']}" for record in missing),
    ]


def summary(session: tp.Sequence[Record], played: tp.Sequence[Record]) -> str:
    """A session as Markdown.

    Raises:
        SystemExit: there is none.
    """
    if not session:
        raise SystemExit("error: the record is empty; measure first")
    one = session[0]
    speed: dict[str, float] = next((record["speed"] for record in session if record["what"] == "machine"), {})
    checks = [Check(**each) for record in session if record["what"] == "checks" for each in record["checks"]]
    rows = summarise(played) if any(record["what"] == "play" for record in played) else None
    versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
    speeds = ", ".join(f"{value:,.0f} {name}" for name, value in speed.items())
    lines = [
        f"# {one['device'] if rows is None else rows.device}",
        f"{one['machine']}, {versions}; commit {one['commit']}; {one['date'][:10]}. Measured here: {speeds}.",
        "## Checks",
        "\n".join(f"- {check.word} {check.title}: {check.told}" for check in checks),
        "## One step of the token decoder",
        "The floor is the bytes of the weights that a step reads by the bandwidth. 500 frames from an empty cache, "
        "median of blocks of 20 steps.",
        markdown(
            ("model", "batch", "precision", "way", "step, µs", "floor, µs", "× floor", "all steps, s"),
            [_step_cells(record, speed) for record in session if record["what"] == "step"],
        ),
        "## From process start to files",
        markdown(
            ("model", "clips", "precision", *PHASES[:4], "total", "warm lm", "warm decode", "GPU, MiB"),
            [_play_cells(row) for row in ([] if rows is None else rows.rows)],
        ),
        "## One training step",
        "Forward, backward, optimizer, without the codec. TFLOP/s: three passes over the products of the model; MFU: "
        "these by what a square matrix product gave here in the same precision.",
        markdown(
            ("model", "batch", "seconds", "precision", "step, ms", "TFLOP/s", "MFU", "GPU, MiB"),
            [_train_cells(record, speed) for record in session if record["what"] == "train"],
        ),
    ]
    return "\n\n".join(lines) + "\n"


def _step_cells(record: Record, speed: dict[str, float]) -> list[str]:
    floor = record["bytes"] / (speed["GB/s"] * 1e9) if speed else float("nan")
    return [
        *(record["model"], str(record["batch"]), record["precision"], record["way"]),
        *(f"{record['step_s'] * 1e6:.0f}", f"{floor * 1e6:.0f}", f"{record['step_s'] / floor:.1f}"),
        f"{record['all_s']:.3f}",
    ]


def _play_cells(row: Row) -> list[str]:
    phases = [cell(row.phases[phase]) for phase in PHASES[:4]]
    warm = [cell(row.warm.get(key), 3) for key in ("lm", "decode")]
    clips = f"{row.batch} × {row.seconds:g} s"
    return [row.model, clips, row.precision, *phases, cell(row.total), *warm, cell(row.vram_mib, 0)]


def _train_cells(record: Record, speed: dict[str, float]) -> list[str]:
    rate = record["flops"] / record["step_s"]
    # float16 has the rate of bfloat16 on every GPU that has both.
    kind = "float32" if record["precision"] == "float32" else "bfloat16"
    peak = speed.get(f"GFLOP/s {kind}")
    return [
        *(record["model"], str(record["batch"]), f"{record['seconds']:g}", record["precision"]),
        *(f"{record['step_s'] * 1e3:.1f}", f"{rate / 1e12:.2f}", f"{rate / peak / 1e9:.0%}" if peak else ""),
        cell(record.get("vram_mib"), 0),
    ]
