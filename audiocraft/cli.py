"""One command with subcommands. Each has a file of its own in `commands/` and imports what is heavy only when run."""

import signal
import sys

import typer

from . import __version__
from .commands import codec, export, fit, generate, manifest, material, novelty, sound, stream, train, tune
from .environment import refuse_peer, share_cores
from .errors import UserError
from .utils.files import disk_told
from .utils.takes import drop_stdout

app = typer.Typer(
    name="python -m audiocraft",
    help="Train a very small MusicGen from a folder of audio, and play with it.",
    epilog="From audio to sound: train FOLDER, export RUN, generate MODEL. Each has its own --help.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("train", context_settings={"ignore_unknown_options": True})(train.train)
app.command("export")(export.export)
app.command("generate")(generate.generate)
app.command("stream")(stream.stream)
app.command("sound")(sound.sound)
app.command("novelty")(novelty.novelty)
app.command("tune")(tune.tune)
app.command("fit")(fit.fit)
app.command("manifest")(manifest.manifest)
app.command("material")(material.material)
app.add_typer(codec.app, name="codec")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"micro-musicgen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print it and stop."),
) -> None:
    """Train a very small MusicGen from a folder of audio, and play with it."""


def main() -> None:
    """Entry point: a user's mistake ends in one line and exit code 2, never in a traceback."""
    # What ends it cleans up: no half-written file stays behind. Training has a gentler way of its own.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        refuse_peer()
        share_cores()
        # Files that are kept tell it themselves, with their names; this one comes of what is printed.
        with disk_told("the disk is full, and the output is not whole; free some space and try again"):
            try:
                app()
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()  # else Python does when it ends, where nobody can catch what goes wrong
    except UserError as error:
        drop_stdout()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever read what is printed has gone
        drop_stdout()
        sys.exit(1)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; this file does not import it
            raise
        reason = str(error).splitlines()[0].split(". ")[0]
        print(f"error: {reason}; ask for less at once (a smaller batch), or use --device cpu", file=sys.stderr)
        sys.exit(2)
