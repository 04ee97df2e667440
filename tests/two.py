"""Two processes that train together on this machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import audiocraft

PATIENCE = 540
HERE = Path(__file__).parent
PATHS = (Path(audiocraft.__file__).parents[1], HERE, HERE / "solvers")
# What each of them runs: `rank`, `folder` and `arguments` are there.
FRAME = """
import sys
import torch
from pathlib import Path
from two import together
rank, folder, arguments = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
with together(rank, folder):
"""


@contextmanager
def together(rank: int, folder: Path) -> Iterator[None]:
    """In one of the two processes: their process group, from the meeting of both to the parting of both."""
    import torch
    import torch.distributed.nn.functional  # as in train.py

    torch.set_num_threads(1)
    patience = timedelta(seconds=PATIENCE)
    store = torch.distributed.FileStore(str(folder / "meet"), 2)
    store.set_timeout(patience)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=patience)
    yield
    # Not a barrier: the first one out of it closes connections that the other may still look at.
    store.set(f"done {rank}", "")
    store.wait(["done 0", "done 1"], patience)
    torch.distributed.destroy_process_group()
    assert not gloo_threads(), "threads of the process group outlive it; at the interpreter's end they may abort it"


def gloo_threads() -> list[str]:
    """Names of the threads of a process group in this process, where the system tells."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def run_two(code: str, *arguments: str, folder: Path) -> list[str]:
    """Run Python code in two processes at once, as one process group; returns what each wrote.

    If one fails, it says why and does not wait for the other.

    Args:
        code: finds `rank`, `folder`, `arguments` and `torch`.
        arguments: the same for both.
        folder: to meet and to work in.
    """
    body = "".join(f"    {line}\n" for line in code.strip().splitlines())
    return start_two([sys.executable, "-c", FRAME + body, "RANK", str(folder), *arguments], folder)


def start_two(command: list[str], folder: Path, env: dict[str, str] | None = None) -> list[str]:
    """The same for a command, in which the word RANK stands for the rank, as in the values of `env`."""
    logs = [folder / f"{rank}.log" for rank in (0, 1)]
    paths = os.pathsep.join(map(str, PATHS))
    started = []
    for rank, log in enumerate(logs):
        named = {name: value.replace("RANK", str(rank)) for name, value in (env or {}).items()}
        with log.open("w") as out:
            started.append(
                subprocess.Popen(
                    [str(rank) if word == "RANK" else word for word in command],
                    env={**os.environ, "PYTHONPATH": paths, "GLOO_SOCKET_IFNAME": "lo", **named},
                    cwd=folder,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            )
    try:
        deadline = time.monotonic() + PATIENCE + 60
        while any(process.poll() is None for process in started) and not any(process.poll() for process in started):
            assert time.monotonic() < deadline, [log.read_text() for log in logs]
            time.sleep(0.05)
    finally:
        for process in started:
            process.kill()
            process.wait()
    wrote = [log.read_text() for log in logs]
    assert [process.returncode for process in started] == [0, 0], wrote
    return wrote
