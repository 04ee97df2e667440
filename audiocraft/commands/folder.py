"""Training on a folder of audio: manifests, some files held out, and no YAML."""

import signal
import typing as tp
from pathlib import Path

import typer

from ..errors import UserError

if tp.TYPE_CHECKING:
    from dora.xp import XP

    from ..data.audio_dataset import AudioMeta
    from ..train import RunResult

_HELD_OUT_SHARE = 0.1


def train_on(
    folder: Path, recipe: tp.Sequence[str], overrides: tp.Sequence[str], scale: str | None = None
) -> "RunResult":
    """Train on a folder of audio files.

    Args:
        folder: searched with all its subfolders.
        recipe: overrides of the configuration that the command chose.
        overrides: those of the user, which win over them.
        scale: of the model, so that it can be said whether the folder is enough for it.
    Returns:
        Where the run is and how far it came.
    Raises:
        UserError: no usable audio, or anything training complains of.
        typer.Exit: stopped at once.
    """
    from ..train import main, run
    from ..utils.overrides import quote

    if unknown := [text for text in overrides if text.startswith("-") or ("=" not in text and text[:1] != "~")]:
        raise UserError(f"{unknown[0]!r} is neither an option nor KEY=VALUE; see --help for options")
    train_manifest, valid_manifest = manifest_paths(folder)
    sources = [f"datasource.train={quote(train_manifest.parent)}"]
    sources += [f"datasource.{split}={quote(valid_manifest.parent)}" for split in ("valid", "evaluate", "generate")]
    arguments = [*recipe, *sources, *overrides]
    try:
        # A slip is told before a long look through the folder, not after it, and leaves no run behind.
        xp = main.make_xp(arguments)
        _check(xp)
        begun = any(xp.folder.glob("checkpoint*.th"))
        manifests = write_manifests(folder)
        if not begun:
            _show_material(manifests, scale)
        return run(arguments)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise typer.Exit(128 + signal.SIGINT) from None


def _show_material(manifests: tp.Iterable[Path], scale: str | None) -> None:
    """Say what the material is like; nothing that goes wrong here keeps anyone from training on it."""
    from ..data.manifest import load_audio_meta
    from ..data.material import look_at

    try:
        files = {item.path: item for path in manifests for item in load_audio_meta(path)}
        lines = look_at(list(files.values()), progress=True).lines(scale)
    except Exception as error:
        lines = [f"the material could not be looked at ({type(error).__name__}: {error})"]
    typer.echo("\n".join(lines))


def _check(xp: "XP") -> None:
    from ..environment import AudioCraftEnvironment
    from ..solvers.settings import check_settings
    from ..utils.device import resolve_device
    from ..utils.dora_main import check_runs_folder

    check_settings(xp.cfg)
    for outputs in (AudioCraftEnvironment.get_dora_dir(), xp.dora.dir):  # of the manifests, of the run
        check_runs_folder(outputs)
    resolve_device(xp.cfg.device)
    if "compression_model_checkpoint" in xp.cfg:
        from ..solvers.run_codec import check_codec

        check_codec(xp.cfg.compression_model_checkpoint, xp.folder)


def exit_if_stopped(result: "RunResult") -> None:
    """End with the status that shells expect where a signal stopped the run."""
    if result.stopped_by is not None:
        raise typer.Exit(128 + result.stopped_by)


def manifest_paths(folder: Path) -> tuple[Path, Path]:
    """Where the manifests of the training and of the held-out files of a folder are, under the outputs folder."""
    import hashlib
    import re

    from ..environment import AudioCraftEnvironment

    root = folder.resolve()
    # Two folders of one name must not share manifests.
    name = f"{re.sub(r'[^A-Za-z0-9]+', '-', root.name)}-{hashlib.sha1(str(root).encode()).hexdigest()[:8]}"
    home = AudioCraftEnvironment.get_dora_dir() / "manifests" / name
    return home / "train" / "data.jsonl", home / "valid" / "data.jsonl"


def write_manifests(folder: Path) -> tuple[Path, Path]:
    """Look through a folder and write what to train on and what to hold out.

    Returns:
        `manifest_paths`.
    """
    from ..data.audio_dataset import save_audio_meta
    from ..data.scan import scan_folder
    from ..environment import AudioCraftEnvironment

    report = scan_folder(folder, workers=4, progress=True, resolve=True)
    typer.echo("\n".join(report.lines()))
    root = folder.resolve()
    meta = without_own_work(report.meta, root, AudioCraftEnvironment.get_dora_dir().resolve())
    if len(meta) < len(report.meta):
        typer.echo(
            f"left out what was made here, runs and takes below this folder: {len(report.meta) - len(meta)} files"
        )
    if not meta:
        raise UserError(f"{root} holds nothing but runs and takes made here; give a folder of other audio")
    train, valid = hold_out(meta, root)
    if train is valid:
        typer.echo("there is only one file: it is trained on whole, and the validation loss is that of the same file;")
        typer.echo("cut it into several files to see how the model does on music it never saw")
    else:
        held = sum(meta.duration for meta in valid)
        typer.echo(f"held out for validation: {len(valid)} of {len(meta)} files ({held / 60:.1f} min)")
    paths = manifest_paths(folder)
    for path, meta in zip(paths, (train, valid)):
        save_audio_meta(path, meta)
    return paths


def without_own_work(meta: list["AudioMeta"], root: Path, outputs: Path) -> list["AudioMeta"]:
    """Leave out the samples of runs (`outputs`) and folders of takes where they lie below `root`.

    Else `train .` would learn from its own sounds, and from held-out files that samples continue. A folder of takes
    that is given itself is taken: feeding a model to the next one is a way to play.
    """
    from .takes import load_takes

    folders = {Path(item.path).parent for item in meta} - {root}
    takes = {str(path) for folder in folders for path, _ in load_takes(folder)}
    below = outputs != root and outputs.is_relative_to(root)
    return [item for item in meta if item.path not in takes and not (below and Path(item.path).is_relative_to(outputs))]


def hold_out(meta: list["AudioMeta"], root: Path) -> tuple[list["AudioMeta"], list["AudioMeta"]]:
    """Split files into those to train on and those held out: a tenth, at least one each; a single file is both.

    The choice hangs on the files' names within the folder alone: it is the same on every machine, and a file that is
    added or taken away leaves most others where they were.
    """
    import hashlib

    def rank(item: "AudioMeta") -> str:
        path = Path(item.path)
        inside = path.relative_to(root) if path.is_relative_to(root) else path
        return hashlib.sha1(inside.as_posix().encode()).hexdigest()

    if len(meta) == 1:
        return meta, meta
    count = max(1, round(_HELD_OUT_SHARE * len(meta)))
    held = {id(item) for item in sorted(meta, key=rank)[:count]}
    return [m for m in meta if id(m) not in held], [m for m in meta if id(m) in held]
