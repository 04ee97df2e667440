"""T5s that lie in a folder: beside the weights of a model (`./t5` in its config), or where a run was trained.

One that is known by name (`t5-base`) is the hub's, and nothing of this concerns it.
"""

import typing as tp
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import UserError
from ..modules.t5 import T5_WIDTHS
from ..utils.config import literal
from ..utils.files import read_json
from .configs import with_value

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig

FOLDER = "t5"  # in an export
# What a T5 consists of; a model's folder may hold it among other files.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_PARTS = ("model-*.safetensors", "pytorch_model-*.bin")  # that an index names
_TOKENIZER = (
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
LAST_FILE = "config.json"  # to be fetched: where it is, the others are
FILES = (*_WEIGHTS, *_PARTS, *_TOKENIZER, LAST_FILE)


def _nodes(cfg: "DictConfig") -> dict[str, tp.Any]:
    """Condition → the node that describes its T5."""
    conditioners = cfg.get("conditioners")
    nodes = conditioners.items() if hasattr(conditioners, "items") else ()
    t5s = {key: node.get("t5") for key, node in nodes if hasattr(node, "get")}
    return {key: t5 for key, t5 in t5s.items() if hasattr(t5, "get")}


def _name(node: tp.Any) -> str:
    return str(node.get("name") or "")


def _beside(cfg: "DictConfig", folder: Path) -> dict[str, Path]:
    """Condition → folder of its T5, of those that are named relative to the folder of the weights."""
    return {key: (folder / _name(node)).resolve() for key, node in _nodes(cfg).items() if _name(node).startswith(".")}


def within(cfg: "DictConfig", folder: Path) -> dict[str, Path]:
    """Condition → folder of its T5, of those that are named relative to the folder of the weights, for those who copy
    or fetch files in the name of a stranger's config.

    Raises:
        UserError: a T5 is outside of the folder.
    """
    found = _beside(cfg, folder)
    for source in found.values():
        if not source.is_relative_to(folder.resolve()):
            raise UserError(f"the T5 {source} is outside of the model's folder; put it there, and name it ./{FOLDER}")
    return found


def resolve(cfg: "DictConfig", folder: Path) -> None:
    """Name those beside the weights by their absolute path."""
    for key, source in _beside(cfg, folder).items():
        _nodes(cfg)[key].name = literal(str(source))


def resolve_from_here(cfg: "DictConfig") -> None:
    """The same for the config of a run that starts: it means the folder that one is in, from which others play it."""
    for node in _nodes(cfg).values():
        name = _name(node)
        if name and name not in T5_WIDTHS and Path(name).is_dir():
            node.name = literal(str(Path(name).resolve()))


def of_run(cfg: "DictConfig") -> dict[str, Path]:
    """Condition → folder of its T5, of those that a run has in folders."""
    places = {key: Path(_name(node)) for key, node in _nodes(cfg).items()}
    return {key: place for key, place in places.items() if place.is_absolute() and place.is_dir()}


def fetch(place: Path, get: tp.Callable[[str], Path | None]) -> None:
    """Fetch the files of a T5 at `place` of a repository.

    Args:
        get: fetches one file of it; None where there is none by that name.
    """
    found = next((path for name in _WEIGHTS if (path := get((place / name).as_posix()))), None)
    names: set[str] = set(_TOKENIZER)
    if found is not None and found.suffix == ".json":
        names |= _parts(found)
    for name in (*sorted(names), LAST_FILE):
        get((place / name).as_posix())


def _parts(index: Path) -> set[str]:
    """Files that weights are cut into."""
    try:
        names = set(read_json(index)["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()  # told where the T5 is loaded
    return {name for name in names if any(fnmatchcase(str(name), pattern) for pattern in _PARTS) and "/" not in name}


def carried(text: str, cfg: "DictConfig", sources: tp.Mapping[str, Path]) -> tuple[str, dict[str, Path]]:
    """A config that names its T5s `./t5`, and their files by their place in the folder.

    Args:
        text, cfg: of a language model, as YAML and as it was read.
        sources: condition → folder of its T5.
    """
    from omegaconf import OmegaConf

    places: dict[Path, str] = {}
    for source in sources.values():
        places.setdefault(source, f"{FOLDER}_{len(places) + 1}" if places else FOLDER)
    files = {
        f"{place}/{file.name}": file
        for source, place in places.items()
        for file in sorted(source.iterdir())
        if file.is_file() and any(fnmatchcase(file.name, pattern) for pattern in FILES)
    }
    if all(_name(_nodes(cfg)[key]) == f"./{places[source]}" for key, source in sources.items()):
        return text, files
    conditioners: tp.Any = OmegaConf.to_container(cfg.conditioners, resolve=True)
    for key, source in sources.items():
        conditioners[key]["t5"]["name"] = f"./{places[source]}"
    return with_value(text, "conditioners", conditioners), files
