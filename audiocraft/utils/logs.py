"""Log lines on the terminal, which leave progress bars alone, and in a file."""

import logging
import re
import sys
from pathlib import Path

_ANSI = re.compile(r"\033\[[0-9;]*m")


class _PlainFormatter(logging.Formatter):
    """No colours where nobody sees them."""

    def format(self, record: logging.LogRecord) -> str:
        return _ANSI.sub("", super().format(record))


class _TerminalHandler(logging.Handler):
    """Write to stderr, above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if "tqdm" in sys.modules:
            sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr)


class _LogFile(logging.FileHandler):
    """A log file on a full disk loses lines; the traceback that logging would print for each helps nobody."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def setup_logging(level: str | int = "INFO", file: Path | None = None, terminal: bool = True) -> None:
    """Send log lines to stderr and to `file` (appended); handlers of an earlier call are replaced."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if getattr(handler, "micro_musicgen", False):
            root.removeHandler(handler)
            handler.close()
    handlers: list[logging.Handler] = []
    if terminal:
        handlers.append(_TerminalHandler())
        colours = sys.stderr.isatty()
        handlers[-1].setFormatter(
            (logging.Formatter if colours else _PlainFormatter)("%(asctime)s %(message)s", "%H:%M:%S")
        )
    if file is not None:
        handlers.append(_LogFile(file))
        handlers[-1].setFormatter(_PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for handler in handlers:
        handler.micro_musicgen = True  # type: ignore[attr-defined]
        root.addHandler(handler)
    root.setLevel(level)
