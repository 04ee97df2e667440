"""Kill trainings at random moments, many times, and see that what comes out is what a run left alone gives.

    python scripts/torture.py --kills 100 [--seed 0] [--jobs 1] [--kind lm codec] [--out outputs/torture.json]

Tiny language models and codecs are trained by `python -m audiocraft` on made-up sound and killed (SIGKILL) again and
again, each run a few times, then left to finish. Weights, optimizer, averages, random states, loss curve and samples
must then equal those of a run that nothing happened to, bit for bit; no file may be missing or too many, no process
left. What the process was about is known from outside (`reliability/watched.py`) and counted. Exit status 1 on a fault.
"""

import contextlib
import json
import math
import os
import random
import re
import select
import signal
import subprocess
import threading
import time
import typing as tp
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
import yaml
from reliability import Proof, room

MOST_KILLS = 10  # of one run
PATIENCE_S = 300.0
COMMON = (
    *("--epochs", "2", "--device", "cpu", "sample_rate=16000", "num_threads=1", "logging.log_updates=10"),
    *("dataset.batch_size=2", "dataset.segment_duration=0.5", "dataset.valid.num_samples=2"),
    *("dataset.evaluate.num_samples=2", "dataset.generate.num_samples=2", "evaluate.every=1", "generate.every=1"),
    *("schedule.cosine.warmup=2", "optim.updates_per_epoch=5", "checkpoint.save_every=1", "checkpoint.keep_last=1"),
)
CODEC = (
    *("codec", "train", "AUDIO", "--from", "nothing", "--kind", "encodec", *COMMON),
    *("seanet.n_filters=2", "seanet.dimension=16"),
    *("rvq.bins=64", "msspec.range_start=6", "msspec.range_end=9"),
    *("dataset.evaluate.segment_duration=0.5", "dataset.generate.segment_duration=0.5"),
)
LM = (
    *("train", "AUDIO", "--codec", "CODEC", "--scale", "pico", *COMMON, "transformer_lm.card=64"),
    *("transformer_lm.dim=16", "transformer_lm.num_heads=2", "transformer_lm.num_layers=1"),
    "generate.lm.prompt_duration=0.2",
)
# What a kill waits for: the event, at most the how many-th of it, seconds from then on within which it comes, weight.
MOMENTS: dict[str, tuple[str, int, float, int]] = {
    "a process starts": ("", 0, 6.0, 10),
    "a run begins": (r"log: Run ", 1, 0.5, 8),
    "a step is done": (r"log: .* \| \d+/\d+ \| ", 8, 0.05, 18),
    "a stage is done": (r"log: .*Summary", 5, 0.05, 18),
    "a checkpoint is being written": (r"open: .*/\.checkpoint\.~\S+ None", 8, 0.02, 14),
    "a checkpoint is whole": (r"open: .*/\.checkpoint\.~\S+ r$", 8, 0.004, 10),
    "a checkpoint gets its name": (r"os.rename: .*/\.checkpoint\.~", 8, 0.0006, 14),
    "a checkpoint has its name": (r"os.remove: .*/\.checkpoint\.~", 8, 0.0006, 4),
    "an epoch's checkpoint is named": (r"os.link: ", 2, 0.001, 5),
    "the history is written": (r"open: .*/history.json.tmp w", 3, 0.001, 5),
    "another file is written": (r"open: .*/\.(?!checkpoint)[^/]*\.~\S+ None", 12, 0.003, 8),
}
STAGES = {"Run ": "loading", "This run will take": "training", "Train Summary": "validating"}
STAGES |= {"Valid Summary": "evaluating", "Evaluate Summary": "generating", "Generate Summary": "training"}
MARKS = {"open None": "writing", "open w": "writing", "os.link": "writing", "open r": "flushing"}
MARKS |= {"os.rename": "renaming", "open r+": "removing what was left"}
TEMPORARY = re.compile(r"/\.([^/ ]+)\.~\w{8}(\.\w+)?(?= |$)|/(history\.json)\.tmp")


class Fault(Exception):
    """What must not happen."""


@dataclass
class Watcher:
    """What a watched process is about, from the lines it tells."""

    stage: str = "starting"
    step: str = ""
    file: str | None = None
    mark: str = ""

    def hear(self, line: bytes) -> str:
        """Take in one line; it comes back as the text that `MOMENTS` describe."""
        event, *words = json.loads(line)
        text = " ".join(words)
        if event == "log":
            self.stage = next((stage for begin, stage in STAGES.items() if begin in text), self.stage)
            self.step = " | ".join(text.split(" | ")[:3]) if re.search(r" \| \d+/\d+ \| ", text) else self.step
        self.mark = MARKS.get(f"open {words[1]}" if event == "open" else event, "")
        name = TEMPORARY.search(text) if self.mark else None
        self.file = (name[3] or name[1] + (name[2] or "")) if name else None
        return f"{event}: {text}"

    def record(self, moment: str, folder: Path) -> dict[str, tp.Any]:
        """What is kept of a kill: phase, file and step, and which temporary files it left in the run's folder."""
        left = [path.name for path in folder.rglob("*") if is_temporary(str(path))]
        phase = f"saving: {self.mark}" if self.file else self.stage
        if self.file and self.mark == "renaming":
            mine = any(name.strip(".").startswith(Path(self.file).stem) for name in left)
            phase = f"saving: {'before' if mine else 'after'} the rename"
        return {"waited for": moment, "phase": phase, "file": self.file, "after": self.step, "left": left}


class Lane:
    """Starts watched processes, one at a time, most of them as forks of one that has imported what they need."""

    def __init__(self) -> None:
        self._told, self._tell = os.pipe()
        os.set_blocking(self._told, False)
        self._rest, self.sessions = b"", set[int]()
        pipes: dict[str, tp.Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "pass_fds": [self._tell]}
        self._server = subprocess.Popen(**room("watched", "serve", self._tell), text=True, **pipes)
        self._in, self._out = tp.cast(tp.IO[str], self._server.stdin), tp.cast(tp.IO[str], self._server.stdout)

    def close(self) -> None:
        """End the server of forks."""
        self._server.communicate()
        os.close(self._told)
        os.close(self._tell)

    def play(
        self, folder: Path, command: list[str], moment: str | None, rng: random.Random
    ) -> dict[str, tp.Any] | None:
        """Run a command in a folder, and kill it at a moment: a record of that, or None where it ended by itself.

        Raises:
            Fault: it failed, or hangs.
        """
        pattern, most, within, _ = MOMENTS.get(moment or "", ("$^", 1, 0.0, 0))
        left, wait = min(rng.randint(min(1, most), most) for _ in range(2)), rng.uniform(0, within)
        pid, ended = self._start(folder, command, cold=not most)
        self.sessions.add(pid)
        began, watcher, killed = time.monotonic(), Watcher(), False
        due = began + (wait if not left else math.inf)
        while (status := ended()) is None:
            for line in self._lines(min(0.05, max(0.0, due - time.monotonic()))):
                left -= bool(re.match(pattern, watcher.hear(line)))
                if not left and due == math.inf:
                    due = time.monotonic() + wait
                    break
            if not killed and time.monotonic() >= due:
                os.kill(pid, signal.SIGKILL)
                killed = True
            if time.monotonic() > began + PATIENCE_S:
                os.kill(pid, signal.SIGKILL)
                raise Fault(f"it hangs, {watcher}")
        for line in self._lines(0):
            watcher.hear(line)
        if status not in (0, -signal.SIGKILL):
            raise Fault(f"it ended with {status}: {(folder / 'output.txt').read_text()[-2000:]}")
        return watcher.record(moment or "", folder) if status else None

    def _start(self, folder: Path, command: list[str], cold: bool) -> tuple[int, tp.Callable[[], int | None]]:
        """The process, and a function that gives its exit status once it has one."""
        if cold:
            with (folder / "output.txt").open("a") as log:
                more: dict[str, tp.Any] = {"cwd": folder, "stdout": log, "stderr": log, "start_new_session": True}
                process = subprocess.Popen(**room("watched", self._tell, *command), pass_fds=[self._tell], **more)
            return process.pid, process.poll
        print(json.dumps([str(folder), command]), file=self._in, flush=True)
        pid = int(self._out.readline())
        return pid, lambda: int(self._out.readline()) if select.select([self._out], [], [], 0)[0] else None

    def _lines(self, wait: float) -> tp.Iterator[bytes]:
        """Lines told by now; where there are none, those that come within some seconds."""
        while True:
            while b"\n" in self._rest:
                line, self._rest = self._rest.split(b"\n", 1)
                yield line
            if not select.select([self._told], [], [], wait)[0]:
                return
            self._rest += os.read(self._told, 1 << 16)
            wait = 0


def is_temporary(path: str) -> bool:
    """Whether a file is one that was to get another name."""
    return bool(TEMPORARY.search(path) or path.endswith((".tmp", ".partial")))


def results(folder: Path) -> dict[str, str]:
    """All that the run in a folder made, value by value, as far as it must be the same wherever and whenever."""
    (run,) = (folder / "outputs" / "xps").iterdir()
    found: dict[str, str] = {}
    for path in sorted(path for path in (folder / "outputs").rglob("*") if path.is_file()):
        content: tp.Any = None
        if path.suffix in (".th", ".bin"):
            try:
                content = torch.load(path, weights_only=True)
            except Exception as error:
                content = f"not whole: {error}"
        elif path.name not in ("files.json", "solver.log.0", ".lock", ".argv.json"):  # times, the process
            content = json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes().hex()
        for place, value in leaves(content, str(path.relative_to(folder))):
            found[place.replace(run.name, "SIG")] = value.replace(run.name, "SIG").replace(str(folder), "FOLDER")
    return found


def leaves(content: tp.Any, place: str) -> tp.Iterator[tuple[str, str]]:
    """Each value, tensors bit by bit, without durations and those settings that each start draws."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "xp.cfg":
                value = yaml.safe_load(value)
                value["dataset"]["num_workers"] = value["checkpoint"]["every_minutes"] = None
            if key != "duration":
                yield from leaves(value, f"{place}/{key}")
    elif isinstance(content, (list, tuple)):
        for index, value in enumerate(content):
            yield from leaves(value, f"{place}/{index}")
    elif isinstance(content, torch.Tensor):
        yield place, f"{content.dtype} {tuple(content.shape)} {content.numpy().tobytes().hex()}"
    else:
        yield place, repr(content)


def alive(sessions: set[int]) -> list[str]:
    """Processes of these sessions, as Linux lists them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session) in sessions and state != "Z":
                found.append(stat.parent.name)
    return found


class Torture:
    """Runs that are killed, beside one of each kind that is not."""

    def __init__(self, work: Path, seed: int, kinds: tp.Sequence[str]) -> None:
        self.work, self.seed, self.kinds = work, seed, kinds
        self.records: list[dict[str, tp.Any]] = []
        self.faults: list[str] = []
        self._commands: dict[str, list[str]] = {}
        self._expected: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def _prepare(self, lane: Lane) -> None:
        """Make four short files, and the runs that nothing happens to."""
        audio = self.work / "audio"
        audio.mkdir()
        rng = np.random.default_rng(0)
        for index, seconds in enumerate((3.0, 2.1, 0.7, 1.5)):
            tone = 0.3 * np.sin(2 * np.pi * 110 * (index + 1) * np.arange(int(seconds * 16000)) / 16000)
            soundfile.write(audio / f"{index}.wav", tone + 0.1 * rng.standard_normal(len(tone)), 16000)
        for kind, words in (("codec", CODEC), ("lm", LM)):
            codec = next((self.work / "codec" / "outputs" / "xps").glob("*"), "")
            self._commands[kind] = [{"AUDIO": str(audio), "CODEC": str(codec)}.get(word, word) for word in words]
            if kind == "codec" or kind in self.kinds:
                self._expected[kind] = self._one_run(lane, kind, self.work / kind, 0, random.Random(0))

    def _one_run(self, lane: Lane, kind: str, folder: Path, kills: int, rng: random.Random) -> dict[str, str]:
        """A run that is killed that often, if it lasts, and what it made."""
        folder.mkdir()
        weights = [weight for *_, weight in MOMENTS.values()]
        for left in range(kills, -1, -1):
            moment = rng.choices(list(MOMENTS), weights)[0] if left else None
            # Keys that leave the signature alone, and what the run makes as well.
            minutes, workers = rng.choice(["0.00001", "0.00001", "0.002", "null"]), rng.choice("0001")
            drawn = [f"checkpoint.every_minutes={minutes}", f"dataset.num_workers={workers}", "mp_start_method=fork"]
            killed = lane.play(folder, [*self._commands[kind], *drawn], moment, rng)
            if killed is None:
                break
            with self._lock:
                self.records.append({"run": folder.name, **killed})
        return results(folder)

    def _torment(self, lane: Lane, index: int, kills: int) -> None:
        """One run, killed, finished and compared; two of three are of the first kind."""
        kind = self.kinds[(index % 3 == 2) % len(self.kinds)]
        try:
            made = self._one_run(lane, kind, self.work / f"{kind}{index}", kills, random.Random(f"{self.seed} {index}"))
            differ = {place for place, _ in self._expected[kind].items() ^ made.items()}
            differ |= {place for place in made if is_temporary(f"/{place}")}
            found = [f"not the same: {place}" for place in sorted(differ)]
        except Fault as fault:
            found = [str(fault)]
        self.faults += [f"{kind}{index}: {text}" for text in found[:20]]

    def run(self, kills: int, jobs: int) -> None:
        """So many kills, in so many lanes at once."""
        lanes = [Lane() for _ in range(jobs)]
        self._prepare(lanes[0])
        numbers = iter(range(10**6))

        def work(lane: Lane) -> None:
            while (left := kills - len(self.records)) > 0 and not self.faults:
                self._torment(lane, next(numbers), min(MOST_KILLS, left))
                print(f"{len(self.records)} of {kills} kills, {len(self.faults)} faults", flush=True)

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(work, lanes))
        for lane in lanes:
            lane.close()
        sessions = {pid for lane in lanes for pid in lane.sessions}
        until = time.monotonic() + 60  # orphaned readers of data look for their parent every five seconds
        while (left := alive(sessions)) and time.monotonic() < until:
            time.sleep(0.2)
        self.faults += [f"processes are left: {left}"] if left else []


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Parse the command line, kill, print, record."""
    proof = Proof(__doc__, "torture")
    proof.parser.add_argument("--kills", type=int, default=100)
    proof.parser.add_argument("--kind", nargs="+", choices=("lm", "codec"), default=["lm", "codec"], help="of runs")
    options = proof.parser.parse_args(argv)
    with proof.folder() as folder:
        torture = Torture(folder, options.seed, options.kind)
        torture.run(options.kills, options.jobs)
    phases = dict(sorted(Counter(record["phase"] for record in torture.records).items()))
    print(*(f"{count:5}  {phase}" for phase, count in phases.items()), sep="\n")
    print(*(f"FAULT {fault}" for fault in torture.faults), sep="\n")
    found = {"seed": options.seed, "phases": phases, "faults": torture.faults, "kills": torture.records}
    proof.end(options.out, found)


if __name__ == "__main__":
    main()
