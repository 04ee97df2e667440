"""A command of the package as it is, which tells through a pipe what it is about to do. `torture.py` kills it.

    python -P -m reliability.watched FD ARGUMENTS…    one command in this process
    python -P -m reliability.watched serve FD         for each [folder, arguments] on stdin a fork that has all imported

Nothing of the package is changed: the interpreter's audit events tell of files, the log of steps and stages.
"""

import json
import logging
import os
import runpy
import sys
import typing as tp
from pathlib import Path

# Audit events, and how many of their arguments are told.
FILE_EVENTS = {"open": 2, "os.rename": 2, "os.link": 2, "os.remove": 1}


def run(fd: int, arguments: list[str]) -> None:
    """What `python -m audiocraft ARGUMENTS` does, telling of log lines and of files below the working folder."""
    root = str(Path.cwd())

    def tell(*words: object) -> None:
        os.write(fd, (json.dumps(words) + "\n").encode())

    def heard(event: str, of: tuple[tp.Any, ...]) -> None:
        count = FILE_EVENTS.get(event)
        if count and isinstance(of[0], (str, os.PathLike)) and os.fspath(of[0]).startswith(root):
            tell(event, *map(str, of[:count]))

    class Log(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tell("log", record.getMessage()[:200])

    sys.addaudithook(heard)
    logging.getLogger().addHandler(Log())
    sys.argv = ["audiocraft", *arguments]
    runpy.run_module("audiocraft", run_name="__main__", alter_sys=True)


def serve(fd: int) -> None:
    """Fork for each line of stdin; tell its process on stdout, and when it has ended, how."""
    import torch

    import audiocraft.commands.folder
    import audiocraft.solvers.compression
    import audiocraft.solvers.musicgen
    import audiocraft.train  # noqa: F401

    torch.optim.SGD([torch.zeros(1)])  # imports what the first optimizer does
    for line in sys.stdin:
        folder, arguments = json.loads(line)
        child = os.fork()
        if not child:
            os.setsid()
            os.chdir(folder)
            log = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for stream in (1, 2):
                os.dup2(log, stream)
            run(fd, arguments)
            sys.exit()
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        run(int(sys.argv[1]), sys.argv[2:])
