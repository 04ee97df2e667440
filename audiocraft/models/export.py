"""From a run or a model to a model folder, in the peer's layout or in ours.

`peer` plays here and in the peer: `state_dict.bin` and `compression_state_dict.bin`, each a `torch.save` dict of
`best_state` (float32 tensors), `xp.cfg` (YAML text), `version`, `exported: True`; a codec that the peer knows by name
is only named: `pretrained`, `version`, `exported`.

`safetensors` is ours, and ready for the hub: `model.safetensors` (tensors of the types they had), `config.yaml` (the
same text), `README.md` (a model card), and the codec likewise in `codec/`, or named in the config.

Beside both `export.json` says which run, epoch and weights were taken.
"""

import json
import logging
import shutil
import typing as tp
from functools import partial
from pathlib import Path

from .. import __version__
from ..checkpoints import local_t5, locate
from ..checkpoints.card import CARD_FILE
from ..checkpoints.checkpoint import numbered_checkpoints, resolve_checkpoint_path
from ..checkpoints.configs import export_config, package_config, parse, with_codec, with_sampling, with_value
from ..checkpoints.layouts import MODEL_FILES, ModelContent, is_ours, peer_files, safetensors_files, saving, text_file
from ..checkpoints.locate import CODEC_FILE, CONFIG_FILE, LM_FILE, WEIGHTS_FILE
from ..checkpoints.packages import Package, codec_of, codec_package, load_lm_model_ckpt, read_content
from ..checkpoints.weights import inner, run_history, select_state
from ..environment import AudioCraftEnvironment
from ..errors import UserError
from ..utils.files import read_json, write_files
from .genmodel import check_match
from .lm import LMModel
from .loaders import build_compression_model, build_lm_model

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)

# Codecs that the peer builds from their name alone; every other one travels whole.
PEER_CODECS = ("facebook/encodec_24khz", "facebook/encodec_32khz")
FORMATS = ("peer", "safetensors")
FACTS_FILE = "export.json"


def export_lm(checkpoint_path: str | Path, out_file: str | Path, state: str | None = None) -> Path:
    """Export the language model of a checkpoint of a MusicGen run.

    Args:
        checkpoint_path: the run's `checkpoint.th`, or one of an epoch.
        out_file: the file, or a folder that gets a `state_dict.bin`.
        state: `ema`, `best` or `model`; None for the averaged weights where the run kept some, else the last.
    Returns:
        The file written.
    Raises:
        UserError: no such checkpoint or state, a damaged file, a full disk.
    """
    package = _Run(Path(checkpoint_path), state).package("transformer_lm", "MusicGen")
    return _write_one(package, out_file, LM_FILE)


def export_encodec(checkpoint_path: str | Path, out_file: str | Path, state: str | None = None) -> Path:
    """Export the codec of a checkpoint of a compression run; as `export_lm`."""
    package = _Run(Path(checkpoint_path), state).package("encodec", "codec")
    return _write_one(package, out_file, CODEC_FILE)


def export_pretrained_compression_model(pretrained_encodec: str, out_file: str | Path) -> Path:
    """Export the codec that a language model needs: only its name where the peer knows it, else the codec itself.

    Args:
        pretrained_encodec: a codec's name as `loaders.load_compression_model` takes it.
        out_file: the file, or a folder that gets a `compression_state_dict.bin`.
    Raises:
        UserError: nothing by that name, or it cannot be written in the peer's layout.
    """
    return _write_one(_exported_codec(str(pretrained_encodec)), out_file, CODEC_FILE)


def _write_one(package: Package, out: str | Path, name: str) -> Path:
    """Write a file of the peer's layout, by that name where `out` is a folder."""
    out = Path(out)
    return write_files({out / name if out.is_dir() else out: saving(package)})


def export_model(
    model: str | Path,
    out_dir: str | Path,
    state: str | None = None,
    epoch: int | None = None,
    replace: bool = False,
    format: str | None = None,
    sampling: tp.Mapping[str, tp.Any] | None = None,
) -> Path:
    """Write a run, or a model of any layout, as a model folder.

    Args:
        model: a run (signature, folder or checkpoint file), or a model or codec by any name that loads.
        out_dir: the folder; an earlier export of the same run in it is replaced.
        state: of a run: `ema`, `best` or `model`; None for the averaged weights where the run kept some, else the last.
        epoch: of a run: take the checkpoint kept for this epoch (1 is the first); None takes the last one.
        replace: also replace another model in that folder.
        format: `peer` or `safetensors`; None for `peer` where the peer can decode it.
        sampling: knobs of the sampler (`audiocraft.utils.takes.Sampling`, but `greedy`) that the model is to come with,
            over those of its config (`sampling`), which come along.
    Returns:
        The folder.
    Raises:
        UserError: no such model, epoch, state, format or knob, one that the peer cannot decode in its format, another
            model in the folder, a damaged file, a full disk.
    """
    if format is not None and format not in FORMATS:
        raise UserError(f"there is no format {format!r}; choose one of {', '.join(FORMATS)}")
    out_dir = Path(out_dir)
    content = read_model(model, state, epoch)
    if sampling:
        if content.lm is None:
            raise UserError(f"{model} is a codec and chooses no codes; leave sampling out")
        content.lm["xp.cfg"] = with_sampling(content.lm["xp.cfg"], sampling)
    if format == "peer" and is_ours(content.codec):
        raise UserError(
            f"audiocraft has no codec of the kind that {model} decodes with; use --format safetensors or onnx, or "
            "train with --codec //pretrained/mini_32khz"
        )
    format = format or ("safetensors" if is_ours(content.codec) else "peer")
    _check_place(model, out_dir, content, replace)
    files = peer_files(content) if format == "peer" else safetensors_files(content, out_dir.resolve().name)
    if not replace and (out_dir / CARD_FILE).exists():
        files.pop(CARD_FILE, None)  # somebody may have written to it
    files = {name: partial(shutil.copyfile, path) for name, path in content.beside.items()} | files
    files[FACTS_FILE] = text_file(json.dumps(content.facts, indent=2, default=str) + "\n")
    held = _held_files(out_dir)
    if not replace and CONFIG_FILE in files.keys() - held and (out_dir / CONFIG_FILE).exists():
        raise UserError(f"{out_dir} holds a {CONFIG_FILE} of something else; give another --out, or --replace")
    write_files({out_dir / name: writer for name, writer in files.items()})
    # What an earlier export left must not stand beside another model, where it would be found first.
    for name in held - files.keys():
        (out_dir / name).unlink()
    return out_dir


def check_export(model: str | Path, out_dir: str | Path, replace: bool = False) -> None:
    """Ask before long work whether `export_model` will write this model, without options of a run, into that folder.

    Raises:
        UserError: it will not, for reasons that can be told beforehand.
    """
    _check_place(model, Path(out_dir), read_model(model), replace)


def _check_place(model: str | Path, out_dir: Path, content: ModelContent, replace: bool) -> None:
    if Path(model).expanduser().is_dir() and out_dir.resolve() == Path(model).expanduser().resolve():
        raise UserError(f"{out_dir} is the model itself; give another --out")
    if not replace:
        _check_free(out_dir, content.facts.get("run"))


def _held_files(folder: Path) -> set[str]:
    """Files of a model in a folder. A config.yaml without weights beside it is somebody else's."""
    held = {name for name in MODEL_FILES if (folder / name).is_file()}
    return {name for name in held if Path(name).name != CONFIG_FILE or str(Path(name).with_name(WEIGHTS_FILE)) in held}


def read_model(model: str | Path, state: str | None = None, epoch: int | None = None) -> ModelContent:
    """What a run, or a model of any layout, consists of; arguments and errors as `export_model`.

    All of it is built once: what does not load is not exported either.
    """
    path = resolve_checkpoint_path(model)
    if epoch is not None or (path is not None and _is_run(path)):
        return _run_content(find_checkpoint(model, epoch), state)
    if state is not None:
        raise UserError(f"{model} is no run and has only one set of weights; leave --state out")
    if locate.shipped_codec(str(model)):
        return _codec_content(model)
    try:
        package = load_lm_model_ckpt(model)
    except locate.NoModel as missing:
        try:
            return _codec_content(model)
        except locate.NoModel:
            raise missing from None
    cfg = package_config(package, package["path"])
    return _lm_content(model, package, cfg) if "transformer_lm" in cfg else _codec_content(model)


def _is_run(path: Path) -> bool:
    if path.suffix == ".safetensors":
        return False
    content = read_content(path)
    return "model" in content and "exported" not in content


class _Run:
    """A run's checkpoint and the weights chosen from it."""

    def __init__(self, path: Path, state: str | None) -> None:
        self.path = path
        self.checkpoint = read_content(path)
        self.cfg = package_config(self.checkpoint, path)
        self.state, self._weights = select_state(self.checkpoint, state, path)
        self.history = run_history(self.checkpoint)

    def package(self, section: str, kind: str) -> Package:
        """What the export file will hold; the run's config must have `section`, else it is no run of that `kind`."""
        if section not in self.cfg:
            raise UserError(
                f"{self.path} is not a checkpoint of a {kind} run (its config has no {section}); give another run"
            )
        text = export_config(parse(self.checkpoint["xp.cfg"]))
        return {"best_state": self._weights, "xp.cfg": text, "path": self.path}

    def facts(self, codec: str | None) -> dict[str, tp.Any]:
        """What `export.json` says."""
        return {
            "run": self.checkpoint.get("xp.sig"),
            "checkpoint": self.path.name,
            "epoch": len(self.history) or None,
            "state": self.state,
            "codec": codec,
            "metrics": self.history[-1] if self.history else {},
            "version": __version__,
        }


def _run_content(path: Path, state: str | None) -> ModelContent:
    run = _Run(path, state)
    samples = [inner(run.cfg, *keys).get("num_samples") for keys in (("dataset", "valid"), ("dataset",))]
    if run.state == "best" and (samples[0] or samples[1] or 0) in (0, 1):
        logger.warning("'best' was picked on one validation sample: that is noise; --state ema is the safer choice")
    if run.cfg.get("solver") == "compression":
        own = run.package("spectral" if "spectral" in run.cfg else "encodec", "codec")
        build_compression_model(own)
        return ModelContent(own, facts=run.facts(None))
    lm = run.package("transformer_lm", "MusicGen")
    codec = codec_of(lm)
    named = run.cfg.get("compression_model_checkpoint") if codec == str(path.parent / CODEC_FILE) else codec
    text, beside = local_t5.carried(lm["xp.cfg"], run.cfg, local_t5.of_run(run.cfg))
    built = build_lm_model(lm)
    return ModelContent(_exported_codec(codec, built), {**lm, "xp.cfg": text}, run.facts(named), beside)


def _lm_content(name: str | Path, package: Package, cfg: "DictConfig") -> ModelContent:
    """A language model as it is: its config's text says what the peer's builders are to make of it."""
    path = package["path"]
    built = build_lm_model(package)
    t5s = local_t5.within(cfg, path.parent)
    facts = _told_facts(path.parent) or _origin(name)
    if not isinstance(facts.get("codec"), str):
        facts["codec"] = str(cfg.get("compression_model_checkpoint") or "")
    text, beside = local_t5.carried(package["xp.cfg"], cfg, t5s)
    if path.resolve() in {file.resolve() for file in beside.values()}:
        raise UserError(f"{path} would be both the model and its T5; put the T5 into a folder of its own, ./t5")
    if not cfg.get("conditioners"):  # the peer fails on null
        text = with_value(text, "conditioners", {})
    lm = {**package, "xp.cfg": with_codec(text, facts["codec"])}
    return ModelContent(_exported_codec(codec_of(package, name), built), lm, facts, beside)


def _codec_content(name: str | Path) -> ModelContent:
    package = codec_package(name)
    facts = _told_facts(package["path"].parent) or _origin(name)
    return ModelContent(_whole(package), facts=facts)


def _exported_codec(name: str, lm: LMModel | None = None) -> Package:
    """What the export file of a codec will hold: its name where the peer knows it, else the codec itself.

    Raises:
        UserError: the codec's codes are not those that the language model speaks.
    """
    package = codec_package(name, stop_at=PEER_CODECS)
    return package if "pretrained" in package else _whole(package, lm)


def _whole(package: Package, lm: LMModel | None = None) -> Package:
    """A codec with all that the peer's builders look for in its config."""
    codec = build_compression_model(package)
    if lm is not None:
        check_match(lm, codec)
    return {**package, "xp.cfg": export_config(parse(package["xp.cfg"]))}


def _origin(name: str | Path) -> dict[str, tp.Any]:
    """Of a model that does not tell: what it was asked for by, without the folders of this machine."""
    return {"model": Path(name).name if Path(name).expanduser().exists() else str(name), "version": __version__}


def _told_facts(folder: Path) -> dict[str, tp.Any]:
    """What an earlier export says of itself; nothing where there is none."""
    try:
        facts = read_json(folder / FACTS_FILE)
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _check_free(folder: Path, run: str | None) -> None:
    """Refuse a folder that holds a model of anything but this run."""
    if not _held_files(folder):
        return
    held = _told_facts(folder).get("run")
    if held is None or held != run:
        what = "another model" if held is None else f"the model of run {held}"
        raise UserError(f"{folder} holds {what}; give another --out, or --replace")


def find_checkpoint(run: str | Path, epoch: int | None = None) -> Path:
    """The checkpoint file of a run, the last one or that of an epoch.

    Raises:
        UserError: there is no such run or the epoch was not kept.
    """
    last = resolve_checkpoint_path(run)
    if last is None:
        raise UserError(
            f"there is no run {str(run)!r} with a checkpoint (signatures are looked up in "
            f"{AudioCraftEnvironment.get_dora_dir() / 'xps'}); give its signature or its folder"
        )
    if epoch is None:
        return last
    kept = dict(numbered_checkpoints(last.parent))
    if epoch not in kept:
        have = f"epochs kept: {', '.join(map(str, kept))}" if kept else "none was kept, see checkpoint.save_every"
        raise UserError(f"{last.parent} has no checkpoint of epoch {epoch}; {have}")
    return kept[epoch]
