"""From a name to the file that holds a model's weights.

A name is one of: a folder or file; `//pretrained/NAME` (a codec that ships here or on the hub, or a local path);
`//sig/SIG` or a bare signature (a run of this project); `//reference/PATH` (under the team's reference folder); a hub
id such as `facebook/musicgen-small`; an https address.

A folder, or a repository of the hub, has one of these layouts:

* the peer's: `state_dict.bin` and `compression_state_dict.bin`;
* ours: `model.safetensors` + `config.yaml`; a language model's codec likewise in `codec/`, or named in the config;
* of a codec, Hugging Face's: `model.safetensors` + `config.json`;
* a run of ours: `checkpoint.th`, and the codec it began with as `compression_state_dict.bin`.
"""

import re
import typing as tp
from pathlib import Path, PurePosixPath

from ..environment import AudioCraftEnvironment, resource_dir
from ..errors import UserError
from ..utils.files import read_json
from ..utils.hub import hub_file, is_hub_id, url_file
from ..utils.model_config import config_text
from .checkpoint import checkpoint_name, resolve_checkpoint_path
from .weights import CODEC_FILE, CODEC_FOLDER, CONFIG_FILE, HF_CONFIG_FILE, LM_FILE, WEIGHTS_FILE, read_config

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig

SHIPPED_CODEC = "spectral_32khz"
INCLUDED_CODEC = f"./{CODEC_FOLDER}"  # what a config of our layout calls a codec that is in its folder

_CODEC_WAYS_OUT = (
    "give a local path, or a cache that holds it (AUDIOCRAFT_CACHE_DIR or HF_HOME); "
    f"the codec that ships here is //pretrained/{SHIPPED_CODEC}"
)
_LM_WAYS_OUT = "give a local folder, or a cache that holds it (AUDIOCRAFT_CACHE_DIR or HF_HOME)"


class NoModel(UserError):
    """Nothing of the kind by that name (but nothing that is damaged or out of reach either)."""


def find_lm(name: str | Path, cache_dir: str | None = None) -> Path:
    """The file with the weights of a language model: an export of any layout, or a run's checkpoint.

    Raises:
        UserError: nothing by that name, or no hub.
    """
    return _find(
        str(name), _lm_in, _lm_on_hub, f"{LM_FILE}, {WEIGHTS_FILE} with {CONFIG_FILE}", _LM_WAYS_OUT, cache_dir
    )


def find_codec(name: str | Path, cache_dir: str | None = None) -> Path:
    """The file with the weights of a codec. Beside a language model of our layout that only names its codec, that
    model's file.

    Raises:
        UserError: nothing by that name, or no hub.
    """
    text = str(name)
    # With the prefix, what ships here comes before a folder that happens to have its name.
    if (text.startswith("//pretrained/") or not Path(text).expanduser().exists()) and (shipped := shipped_codec(text)):
        return shipped / WEIGHTS_FILE
    return _find(text, codec_in, _codec_on_hub, f"{CODEC_FILE}, {WEIGHTS_FILE}", _CODEC_WAYS_OUT, cache_dir)


def shipped_codec(name: str) -> Path | None:
    """The folder of a codec that ships here."""
    bare = name.removeprefix("//pretrained/")
    folder = resource_dir("assets") / bare
    return folder if re.fullmatch(r"\w+", bare) and (folder / WEIGHTS_FILE).is_file() else None


def _lm_in(folder: Path) -> Path | None:
    if (folder / LM_FILE).is_file():
        return folder / LM_FILE
    weights = folder / WEIGHTS_FILE
    return weights if weights.is_file() and (folder / CONFIG_FILE).is_file() else None


def codec_in(folder: Path) -> Path | None:
    """The weights of a codec in a local folder; those of a language model where that only names its codec."""
    for file in (CODEC_FILE, f"{CODEC_FOLDER}/{WEIGHTS_FILE}", WEIGHTS_FILE):
        if (folder / file).is_file():
            return folder / file
    return None


def _lm_on_hub(repo: str, cache_dir: str | None) -> Path | None:
    found = hub_file(repo, (LM_FILE, CONFIG_FILE), cache_dir, _LM_WAYS_OUT)
    return found if found is None or found.name == LM_FILE else _weights_on_hub(repo, CONFIG_FILE, cache_dir)


def lm_file(repo: str, file: str, cache_dir: str | None, commit: str) -> Path | None:
    """A file that belongs to a language model of the hub; None where the repository has none by that name."""
    return hub_file(repo, (file,), cache_dir, _LM_WAYS_OUT, commit=commit)


def _codec_on_hub(repo: str, cache_dir: str | None) -> Path | None:
    configs = (f"{CODEC_FOLDER}/{CONFIG_FILE}", CONFIG_FILE, HF_CONFIG_FILE)
    found = hub_file(repo, (CODEC_FILE, *configs), cache_dir, _CODEC_WAYS_OUT, _tells_of_codec)
    if found is None or found.name == CODEC_FILE:
        return found
    config = f"{CODEC_FOLDER}/{CONFIG_FILE}" if found.parent.name == CODEC_FOLDER else found.name
    return _weights_on_hub(repo, config, cache_dir)


def _tells_of_codec(path: Path) -> bool:
    """Whether a file of a repository leads to a codec: its config.json and config.yaml may be a language model's."""
    if path.name == HF_CONFIG_FILE:
        try:
            return read_json(path)["model_type"] == "encodec"
        except (ValueError, OSError, KeyError, TypeError):
            return False
    if path.name == CONFIG_FILE:
        return config_text(read_config(path), "compression_model_checkpoint") != INCLUDED_CODEC
    return True


def _weights_on_hub(repo: str, config: str, cache_dir: str | None) -> Path:
    """`model.safetensors` beside the config `config` of a repository, both of one commit."""
    weights = str(PurePosixPath(config).with_name(WEIGHTS_FILE))
    found = hub_file(repo, (weights,), cache_dir, _LM_WAYS_OUT)
    if found is None:
        raise UserError(f"{repo} on the hub has a {config}, but no {weights} beside it; tell its author")
    # Where the weights had to be fetched, the config in the cache may be of an older commit.
    hub_file(repo, (config,), cache_dir, _LM_WAYS_OUT)
    return found


def _find(
    name: str,
    in_folder: tp.Callable[[Path], Path | None],
    on_hub: tp.Callable[[str, str | None], Path | None],
    files: str,
    ways_out: str,
    cache_dir: str | None,
) -> Path:
    """Where the weights are: an export's file, else a run's checkpoint, else a file of the hub."""
    text = name.removeprefix("//pretrained/")
    if text.startswith("https://"):
        return url_file(text, cache_dir, ways_out)
    folder = Path(text).expanduser()
    if folder.is_dir() and (found := in_folder(folder)):
        return found
    if found := resolve_checkpoint_path(text):
        return found
    if folder.is_dir():
        raise NoModel(f"{folder} holds none of {files}, {checkpoint_name()}; give the folder of a model or of a run")
    if is_hub_id(text):
        if found := on_hub(text, cache_dir):
            return found
        raise NoModel(f"{text} on the hub has no {files}; {ways_out}")
    if re.fullmatch(r"[0-9a-f]{8}", text) or text.startswith("//sig/"):
        runs = AudioCraftEnvironment.get_dora_dir() / "xps"
        raise UserError(
            f"there is no run {text} with a checkpoint in {runs}; start in the folder where it was trained, "
            "or set AUDIOCRAFT_DORA_DIR to its outputs"
        )
    raise NoModel(f"there is no model {name!r}: no such file, folder, run or hub name; {ways_out}")


def codec_name_of(name: str | Path, path: Path, cfg: "DictConfig") -> str:
    """Name of the codec that belongs to a language model: the one beside it, else the one its config names.

    Args:
        name: what the language model was asked for by.
        path: of its weights.
        cfg: its config.
    """
    text = str(name)
    from_hub = is_hub_id(text) and not Path(text).expanduser().exists()
    if from_hub and path.name in (LM_FILE, WEIGHTS_FILE) and _codec_beside(path) is None:
        return text
    return trained_codec(cfg, path)


def _codec_beside(path: Path) -> str | None:
    """The codec that runs and exports keep beside a language model's weights."""
    if (path.parent / CODEC_FILE).is_file():
        return str(path.parent / CODEC_FILE)
    included = path.parent / CODEC_FOLDER / WEIGHTS_FILE
    return str(included) if path.name == WEIGHTS_FILE and included.is_file() else None


def trained_codec(cfg: "DictConfig", path: Path) -> str:
    """Name of the codec that a language model was trained with; a local one by its absolute path.

    Runs and exports keep it beside the weights; else the config names it. A relative path was meant from the folder
    where the training was started, which is where its outputs folder is unless somebody moved that; from there it is
    looked for first.

    Args:
        cfg: the model's config.
        path: of its weights.
    Raises:
        UserError: the config names none, or a path that leads nowhere.
    """
    if beside := _codec_beside(path):
        return beside
    name = config_text(cfg, "compression_model_checkpoint")
    if not name:
        raise UserError(f"{path} names no codec and no {CODEC_FILE} lies beside it; export the model again")
    if name == INCLUDED_CODEC:
        raise UserError(f"{path.parent / CODEC_FOLDER} with the model's codec is missing; copy the whole folder")
    bare = name.removeprefix("//pretrained/")
    shipped = bare != name and "/" not in bare
    if shipped or bare.startswith(("//", "https://", "~")) or Path(bare).is_absolute():
        return name
    run = path.resolve().parent
    # A run is FOLDER/outputs/xps/SIGNATURE.
    starts = [run.parents[2]] if run.parent.name == "xps" and len(run.parents) > 2 else []
    for start in (*starts, Path.cwd()):
        if (start / bare).exists():
            return str((start / bare).resolve())
    if "/" in bare and not is_hub_id(bare):
        raise UserError(
            f"the codec {name!r} that {path} was trained with is not there from here; run this in the folder where the "
            "training was started, or put the codec back there"
        )
    return name
