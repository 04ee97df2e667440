"""From a name to a package: weights, config, and where they came from, whatever layout they are stored in.

What names there are and where their files lie: `locate`. No file is trusted: weights are read as plain tensors, and a
config reads nothing but itself.
"""

import typing as tp
from pathlib import Path

from .. import __version__
from ..errors import UserError
from ..utils.hub import cached_file, check_reachable, fetched_file, is_hub_id, is_in_cache_of
from . import local_t5, locate
from .checkpoint import load_checkpoint
from .configs import package_config
from .encodec_hf import read_hf_codec
from .locate import CODEC_FILE, CODEC_FOLDER, CONFIG_FILE, HF_CONFIG_FILE, INCLUDED_CODEC, WEIGHTS_FILE
from .weights import check_tensors, read_safetensors, select_state, with_old_norm_names

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig

# `best_state` (name → tensor), `xp.cfg` (YAML text), `version`, and of ours: `path` (the file), and for a run `state`
# (which weights were taken). Of a codec that is only named: `pretrained`, the name.
Package = dict[str, tp.Any]
_MOST_NAMES = 4  # that codecs may pass on to each other


def is_codec(cfg: "DictConfig") -> bool:
    """Whether a config describes a codec."""
    return "encodec" in cfg or "spectral" in cfg


def load_lm_model_ckpt(file_or_url_or_id: str | Path, cache_dir: str | None = None) -> Package:
    """Read a language model's weights and config, without building it.

    Returns:
        `best_state` (name → tensor), `xp.cfg` (YAML text), `version`, and of ours: `path` (the file), and for a run
        `state` (which weights were taken).
    Raises:
        UserError: nothing by that name, or a damaged file.
    """
    if locate.shipped_codec(str(file_or_url_or_id)):
        raise UserError(
            f"{file_or_url_or_id} is a codec and makes nothing by itself; give a model trained on its codes"
        )
    package = read_package(locate.find_lm(file_or_url_or_id, cache_dir))
    repo = str(file_or_url_or_id).removeprefix("//pretrained/")
    if is_in_cache_of(package["path"], repo):
        _fetch_t5s(repo, package, cache_dir)
    return package


def _fetch_t5s(repo: str, package: Package, cache_dir: str | None) -> None:
    """Have the T5s of a repository beside its model, of the same commit."""
    folder = package["path"].parent

    def get(file: str) -> Path | None:
        found = cached_file(repo, file, cache_dir, folder.name)
        return found or fetched_file(repo, file, cache_dir, locate.LM_WAYS_OUT, folder.name)

    for source in local_t5.within(package_config(package, package["path"]), folder).values():
        place = source.relative_to(folder.resolve())
        if not (folder / place / local_t5.LAST_FILE).is_file():
            check_reachable(repo, [f"{place}/{local_t5.LAST_FILE}"], cache_dir, locate.LM_WAYS_OUT)
            local_t5.fetch(place, get)


def load_compression_model_ckpt(file_or_url_or_id: str | Path, cache_dir: str | None = None) -> Package:
    """Read a codec's weights and config in the peer's layout, whatever layout it is stored in, without building it.

    Returns:
        As `load_lm_model_ckpt`; or `pretrained`, the name of another codec, which for a language model is its codec's.
    Raises:
        UserError: nothing by that name, or a damaged file.
    """
    package = read_package(locate.find_codec(file_or_url_or_id, cache_dir))
    if "pretrained" in package:
        return package
    cfg = package_config(package, package["path"])
    if "transformer_lm" in cfg and not is_codec(cfg):
        return {"pretrained": codec_of(package).removeprefix("//pretrained/"), "path": package["path"]}
    return {**package, "best_state": with_old_norm_names(package["best_state"])}


def codec_package(name: str | Path, cache_dir: str | None = None, stop_at: tp.Collection[str] = ()) -> Package:
    """Weights and config of a codec as the peer lays them out, those that are only named looked up.

    Args:
        stop_at: names that are not looked up: the result is then `pretrained`, the name.
    Raises:
        UserError: as `load_compression_model_ckpt`, or names that lead nowhere.
    """
    asked = name
    for _ in range(_MOST_NAMES):
        if (bare := str(name).removeprefix("//pretrained/")) in stop_at:
            return {"pretrained": bare}
        package = load_compression_model_ckpt(name, cache_dir)
        if "pretrained" not in package:
            return package
        name = f"//pretrained/{package['pretrained']}"
    raise UserError(f"the codec {asked} only names others in turn ({name}); give one that has weights")


def codec_of(package: Package, name: str | Path = "") -> str:
    """Name of the codec that belongs to a language model; a local one by its absolute path.

    Runs and exports keep it beside the weights; else the config names it. A relative path was meant from the folder
    where the training was started, which is where its outputs folder is unless somebody moved that; from there it is
    looked for first.

    Args:
        package: of the model.
        name: what the model was asked for by; a repository of the hub is asked for its codec as well.
    Raises:
        UserError: the config names none, or a path that leads nowhere.
    """
    path: Path = package["path"]
    for file in (CODEC_FILE, f"{CODEC_FOLDER}/{WEIGHTS_FILE}"):
        if (path.parent / file).is_file():
            return str(path.parent / file)
    if is_in_cache_of(path, str(name)):
        return str(name)
    codec = str(package_config(package, path).get("compression_model_checkpoint") or "")
    if not codec:
        raise UserError(f"{path} names no codec and no {CODEC_FILE} lies beside it; export the model again")
    if codec == INCLUDED_CODEC:
        raise UserError(f"{path.parent / CODEC_FOLDER} with the model's codec is missing; copy the whole folder")
    bare = codec.removeprefix("//pretrained/")
    shipped = bare != codec and "/" not in bare
    if shipped or bare.startswith(("//", "https://", "~")) or Path(bare).is_absolute():
        return codec
    run = path.resolve().parent
    # A run is FOLDER/outputs/xps/SIGNATURE.
    starts = [run.parents[2]] if run.parent.name == "xps" and len(run.parents) > 2 else []
    for start in (*starts, Path.cwd()):
        if (start / bare).exists():
            return str((start / bare).resolve())
    if "/" in bare and not is_hub_id(bare):
        raise UserError(
            f"the codec {codec!r} that {path} was trained with is not there from here; run this in the folder where "
            "the training was started, or put the codec back there"
        )
    return codec


def read_content(path: Path) -> dict[str, tp.Any]:
    """What the file of an export or a run's checkpoint holds. Raises UserError as `load_checkpoint`."""
    content = load_checkpoint(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a checkpoint (it holds a {type(content).__name__}); check the path")
    return content


def read_package(path: Path) -> Package:
    """Read an export of any layout, or a run's checkpoint as if it had been exported.

    Raises:
        UserError: the file is missing, damaged, or of none of them.
    """
    if path.suffix == ".safetensors":
        return _read_folder(path)
    package = read_content(path)
    if "pretrained" in package:
        if not isinstance(package["pretrained"], str) or not package["pretrained"]:
            raise UserError(f"{path} names no codec, though it should (pretrained); export the model again")
        return {**package, "path": path}
    if "exported" not in package and "model" in package:
        state_name, state = select_state(package, None, path)
        package = {"best_state": state, "xp.cfg": package.get("xp.cfg"), "state": state_name, "version": __version__}
    if not isinstance(package.get("best_state"), dict):
        raise UserError(f"{path} holds no weights (best_state); export the model again")
    check_tensors(package["best_state"], path)
    return {**package, "path": path}


def _read_folder(weights: Path) -> Package:
    """Read a model whose weights are a safetensors file: of our layout, or a codec of Hugging Face's."""
    config = weights.parent / CONFIG_FILE
    if config.is_file():
        # Bytes that are no text make no YAML either, which is told where it is read.
        text = config.read_text(encoding="utf-8", errors="replace")
        state = read_safetensors(weights)
    elif (weights.parent / HF_CONFIG_FILE).is_file():
        state, text = read_hf_codec(weights.parent)
    else:
        raise UserError(
            f"{weights.parent} has neither {CONFIG_FILE} (a model of ours) nor {HF_CONFIG_FILE} (a Hugging Face codec) "
            f"beside {weights.name}; copy the whole folder"
        )
    return {"best_state": state, "xp.cfg": text, "version": __version__, "path": weights}
