"""From a name to the file that holds a model's weights.

A name is one of: a folder or file; `//pretrained/NAME` (what ships here or is on the hub, or a local path);
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
from pathlib import Path

from ..environment import AudioCraftEnvironment, resource_dir
from ..errors import UserError
from ..utils.files import read_json
from ..utils.hub import cached_file, check_reachable, fetched_file, is_hub_id, url_file
from .checkpoint import checkpoint_name, resolve_checkpoint_path
from .configs import read_config

# Names in a model folder: the peer's,
LM_FILE = "state_dict.bin"
CODEC_FILE = "compression_state_dict.bin"
# ours (the first also of a Hugging Face codec),
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
CODEC_FOLDER = "codec"
# and the config of a Hugging Face codec.
HF_CONFIG_FILE = "config.json"

SHIPPED_CODEC = "spectral_32khz"
INCLUDED_CODEC = f"./{CODEC_FOLDER}"  # what a config of our layout calls a codec that is in its folder


class _Kind(tp.NamedTuple):
    """What is looked for."""

    layouts: tuple[tuple[str, str | None], ...]  # weights, and the config that has to be beside them
    tells: tp.Callable[[Path], bool]  # whether a config of the hub belongs to what is looked for
    ways_out: str


def _tells_of_codec(config: Path) -> bool:
    """config.json may be a T5's, or a language model's of others, and config.yaml one whose codec is in `codec`."""
    if config.name == CONFIG_FILE:
        return read_config(config).get("compression_model_checkpoint") != INCLUDED_CODEC
    try:
        return read_json(config)["model_type"] == "encodec"
    except (ValueError, OSError, KeyError, TypeError):
        return False


LM_WAYS_OUT = "give a local folder, or a cache that holds it (AUDIOCRAFT_CACHE_DIR or HF_HOME)"
_LM = _Kind(((LM_FILE, None), (WEIGHTS_FILE, CONFIG_FILE)), lambda config: True, LM_WAYS_OUT)
_CODEC = _Kind(
    (
        (CODEC_FILE, None),
        (f"{CODEC_FOLDER}/{WEIGHTS_FILE}", f"{CODEC_FOLDER}/{CONFIG_FILE}"),
        (WEIGHTS_FILE, CONFIG_FILE),
        (WEIGHTS_FILE, HF_CONFIG_FILE),
    ),
    _tells_of_codec,
    "give a local path, or a cache that holds it (AUDIOCRAFT_CACHE_DIR or HF_HOME); "
    f"the codec that ships here is //pretrained/{SHIPPED_CODEC}",
)


class NoModel(UserError):
    """Nothing of the kind by that name (but nothing that is damaged or out of reach either)."""


def find_lm(name: str | Path, cache_dir: str | None = None) -> Path:
    """The file with the weights of a language model: an export of any layout, or a run's checkpoint.

    Raises:
        UserError: nothing by that name, or no hub.
    """
    return _find(_shipped_first(str(name)), _LM, cache_dir)


def find_codec(name: str | Path, cache_dir: str | None = None) -> Path:
    """The file with the weights of a codec. Beside a language model of our layout that only names its codec, that
    model's file.

    Raises:
        UserError: nothing by that name, or no hub.
    """
    return _find(_shipped_first(str(name)), _CODEC, cache_dir)


def shipped_codec(name: str) -> Path | None:
    """The folder of a codec that ships here."""
    folder = _shipped(name)
    return None if folder is None or _is_lm(folder) else folder


def shipped_lm(name: str) -> Path | None:
    """The folder of a language model that ships here, with its codec."""
    folder = _shipped(name)
    return folder if folder is not None and _is_lm(folder) else None


def _shipped(name: str) -> Path | None:
    bare = name.removeprefix("//pretrained/")
    folder = resource_dir("assets") / bare
    return folder if re.fullmatch(r"\w+", bare) and (folder / WEIGHTS_FILE).is_file() else None


def _is_lm(folder: Path) -> bool:
    return "transformer_lm" in read_config(folder / CONFIG_FILE)


def _shipped_first(name: str) -> str:
    """The folder of what ships here by that name, else the name. A folder that happens to have it comes first, but not
    with the prefix."""
    folder = _shipped(name)
    local = not name.startswith("//pretrained/") and Path(name).expanduser().exists()
    return name if folder is None or local else str(folder)


def _find(name: str, kind: _Kind, cache_dir: str | None) -> Path:
    """Where the weights are: an export's file, else a run's checkpoint, else a file of the hub."""
    text = name.removeprefix("//pretrained/")
    if text.startswith("https://"):
        return url_file(text, cache_dir, kind.ways_out)
    folder = Path(text).expanduser()
    found = _pick(kind.layouts, lambda file: folder / file if (folder / file).is_file() else None)
    if isinstance(found, Path):
        return found
    if checkpoint := resolve_checkpoint_path(text):
        return checkpoint
    if folder.is_dir():
        files = ", ".join(f"{file} with {config}" if config else file for file, config in kind.layouts)
        raise NoModel(f"{folder} holds none of {files}, {checkpoint_name()}; give the folder of a model or of a run")
    if is_hub_id(text):
        return _on_hub(text, kind, cache_dir)
    if re.fullmatch(r"[0-9a-f]{8}", text) or text.startswith("//sig/"):
        runs = AudioCraftEnvironment.get_dora_dir() / "xps"
        raise UserError(
            f"there is no run {text} with a checkpoint in {runs}; start in the folder where it was trained, "
            "or set AUDIOCRAFT_DORA_DIR to its outputs"
        )
    if re.fullmatch(r"//pretrained/\w+", name):
        raise NoModel(f"nothing that ships here is called {text}; {kind.ways_out}")
    raise NoModel(f"there is no model {name!r}: no such file, folder, run or hub name; {kind.ways_out}")


def _pick(
    layouts: tp.Iterable[tuple[str, str | None]],
    get: tp.Callable[[str], Path | None],
    tells: tp.Callable[[Path], bool] = lambda config: True,
) -> Path | list[str]:
    """The first weights that a place has, or names of files that it would need to have some.

    Args:
        get: gives a file of the place, None where it has none by that name.
        tells: whether a config belongs to what is looked for.
    """
    lacks = []
    for weights, config in layouts:
        if config is not None and not ((path := get(config)) and tells(path)):
            lacks.append(config)
        elif found := get(weights):
            return found
        elif config is not None:
            return [weights]
        else:
            lacks.append(weights)
    return lacks


def _on_hub(repo: str, kind: _Kind, cache_dir: str | None) -> Path:
    """What is in the cache is taken as it is, without asking the net; else all is of the newest commit."""
    found = _pick(kind.layouts, lambda file: cached_file(repo, file, cache_dir), kind.tells)
    if isinstance(found, list):
        check_reachable(repo, found, cache_dir, kind.ways_out)
        found = _pick(kind.layouts, lambda file: fetched_file(repo, file, cache_dir, kind.ways_out), kind.tells)
    if isinstance(found, list):
        raise NoModel(f"{repo} on the hub has no {' or '.join(found)}; {kind.ways_out}")
    return found
