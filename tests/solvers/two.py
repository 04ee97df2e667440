"""Two processes that train together on this machine."""

import os
import subprocess
import sys
from pathlib import Path

from audiocraft import train


def run_two(code: str, *arguments: str, folder: Path) -> list[str]:
    """Run Python code in two processes at once; returns what each wrote to its output.

    Args:
        code: takes the rank as its first argument, then `folder`, then `arguments`.
        arguments: the same for both.
        folder: to meet and to work in.
    """
    env = {**os.environ, "PYTHONPATH": str(Path(train.__file__).parents[1]), "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), str(folder), *arguments],
            env=env,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        results = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], results
    return [out for out, _ in results]
