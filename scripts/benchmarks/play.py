"""`bench.py play`: from a shell prompt to sound, phase by phase, each run a process of its own."""

import tempfile
import time
import typing as tp
from dataclasses import dataclass
from pathlib import Path

from .engines import DEFAULT_ENGINES, SLOW_ENGINE, Engine
from .process import ProcessFailed, measured
from .record import Session
from .weights import find_model

# Above this a model takes a minute and more for what others do in seconds: it gets fewer runs.
LARGE_PARAMETERS = 300e6
# Long enough for every file and library to be read once.
DISCARDED_SECONDS = 1.0


@dataclass
class Plan:
    """What to measure; see `bench.py play --help`."""

    models: list[str]
    batches: list[int]
    engines: list[str] | None
    seconds: float
    runs: int
    device: str
    weights: str
    out: Path


@dataclass
class Case:
    """One engine with one number of clips, and how often it is measured."""

    engine: Engine
    batch: int
    runs: int

    @property
    def title(self) -> str:
        """Name for people."""
        return f"{self.engine.model.name}, {self.engine.name}, batch {self.batch}"


def count_runs(runs: int, batch: int, parameters: float) -> int:
    """How often to measure: a third of it for many clips or a large model, a ninth for both; at least once."""
    heavy = (batch > 1) + (parameters > LARGE_PARAMETERS)
    return max(1, round(runs / 3**heavy))


def alternate(cases: tp.Sequence[Case]) -> tp.Iterator[tuple[Case, int]]:
    """Cases and the number of their run: all of them in turn, every other time backwards, until each has had its runs.

    What slows a machine down for a while (heat, a neighbour) then does not hit one engine alone.
    """
    for number in range(max((case.runs for case in cases), default=0)):
        turn = [case for case in cases if case.runs > number]
        for case in turn[:: -1 if number % 2 else 1]:
            yield case, number


def measure(plan: Plan) -> None:
    """Measure everything that can be had, say what cannot, and append it to OUT/play.jsonl.

    Raises:
        SystemExit: nothing could be measured.
    """
    session, began = Session(plan.out / "play.jsonl"), time.monotonic()
    _measure_machine(plan, session)
    cases = [case for name in plan.models for case in _prepare(plan, name, session)]
    if not cases:
        raise SystemExit("error: nothing could be measured; the lines above say why")
    with tempfile.TemporaryDirectory() as folder:
        _discard_first(cases, Path(folder))
        done = sum(_run(case, number, plan, Path(folder), session) for case, number in alternate(cases))
    _measure_machine(plan, session)  # again: whatever else ran at the start may be gone
    print(f"{done} processes in {(time.monotonic() - began) / 60:.1f} minutes, appended to {session.path}")
    if not done:
        raise SystemExit("error: nothing could be measured; the lines above say why")


def _measure_machine(plan: Plan, session: Session) -> None:
    """What floors are made of.

    Raises:
        SystemExit: there is no such device.
    """
    try:
        speed = measured("facts.measure_machine", device=plan.device)
    except ProcessFailed as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{session.facts['machine']}: {', '.join(f'{value:g} {name}' for name, value in speed.items())}")
    session.note("machine", device=plan.device, speed=speed)


def _prepare(plan: Plan, name: str, session: Session) -> list[Case]:
    """The cases of one model, its facts written down."""
    print(f"… preparing {name}", flush=True)
    try:
        source = find_model(name, plan.weights, plan.out / "weights")
        facts = measured("facts.describe_model", name=source.path)
    except ProcessFailed as error:
        print(f"skipped: {name}: {error}")
        return []
    session.note("model", model=source.name, weights=source.weights, facts=facts)
    print(f"  {source.path} ({source.weights} weights), {facts['lm_parameters']:,} parameters")
    cases = []
    for engine_name in plan.engines or DEFAULT_ENGINES:
        engine = Engine(engine_name, source, plan.device, plan.out / "weights")
        try:
            engine.prepare()
        except ProcessFailed as error:
            print(f"skipped: {name}, {engine_name}: {error}")
            continue
        batches = plan.batches
        if plan.engines is None and engine_name == SLOW_ENGINE:
            batches = [min(batches)]
        cases += [Case(engine, b, count_runs(plan.runs, b, facts["lm_parameters"])) for b in batches]
    return cases


def _discard_first(cases: list[Case], folder: Path) -> None:
    """One short run of every engine, not written down: files and libraries are in memory afterwards."""
    for engine in {id(case.engine): case.engine for case in cases}.values():
        print(f"… {engine.model.name}, {engine.name}: a first run, not counted", flush=True)
        try:
            engine.whole(1, DISCARDED_SECONDS, folder)
        except ProcessFailed as error:
            print(f"skipped: {engine.model.name}, {engine.name}: {error}")
            cases[:] = [case for case in cases if case.engine is not engine]


def _run(case: Case, number: int, plan: Plan, folder: Path, session: Session) -> int:
    """Measure a case once and write it down: how many processes that took."""
    engine = case.engine
    facts: dict[str, tp.Any] = {"model": engine.model.name, "weights": engine.model.weights, "engine": engine.name}
    facts |= {"where": plan.device, "batch": case.batch, "seconds": plan.seconds, "run": number}
    print(f"… {case.title}, run {number + 1} of {case.runs}", end="", flush=True)
    done = 0
    try:
        result = engine.whole(case.batch, plan.seconds, folder)
        result["x real time"] = round(case.batch * plan.seconds / result["total"], 3)
        session.note("play", **facts, **result)
        done += 1
        print(f": {result['total']:.1f} s", end="", flush=True)
        if case.batch == 1 and (first := engine.first(plan.seconds, folder)):
            session.note("first", **facts, **first)
            done += 1
            print(f", first sound {first['first_audio']:.2f} s", end="")
        print()
    except ProcessFailed as error:
        print(f"\nskipped: {case.title}: {error}")
    return done
