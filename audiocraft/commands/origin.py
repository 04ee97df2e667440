"""What `train FOLDER --from MODEL` takes from the model: its weights, its shape and its codec."""

import json
import typing as tp
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..utils.overrides import quote

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig

    from ..checkpoints.packages import Package

# Of the node transformer_lm, what says how a run trains and not what the model is.
_OF_TRAINING = ("emb_lr", "lr", "weight_decay", "dropout", "attention_dropout", "checkpointing")
_SIZE = ("dim", "num_heads", "num_layers")


@dataclass
class Origin:
    """A model to begin with.

    Attributes:
        name: as `continue_from` takes it.
        scale: the one of ours that has its size, if one does.
        parameters: how many it has.
        overrides: of the configuration, so that the run builds the same model on the same codec.
        summary: the same in words.
    """

    name: str
    scale: str | None
    parameters: int
    overrides: list[str]
    summary: str


def find_origin(name: str, scale: str | None = None, codec: str | None = None) -> Origin:
    """Look at a model to begin with, before anything is built.

    Args:
        name: a model folder, a run (signature or folder), a hub id or `//pretrained/NAME`.
        scale, codec: what was asked for beside it.

    Raises:
        UserError: there is none of that name, or no model that can be trained on here; a scale or codec other than its
            own.
    """
    from ..checkpoints.configs import package_config
    from ..checkpoints.locate import shipped_lm
    from ..checkpoints.packages import codec_of
    from ..models.loaders import build_lm_model

    name = _as_named(name)
    package = _load(name)
    cfg = package_config(package, package["path"])
    if texts := [key for key in cfg.get("conditioners") or {} if key != "args"]:
        raise UserError(f"{name} was trained with texts ({', '.join(texts)}); --from takes a model without")
    model = build_lm_model(package)  # tells of all that does not fit
    size = {key: cfg.transformer_lm.get(key) for key in _SIZE}
    told = f"{size['num_layers']} layers of width {size['dim']}"
    own_scale = _scale_of(size)
    if scale is not None and scale != own_scale:
        raise UserError(f"--scale {scale} is another size than that of {name} ({told}); leave --scale out")
    own_codec = name if shipped_lm(name) else codec_of(package, name)
    if codec is not None:
        _compare(codec, own_codec, name)
    overrides = [
        f"continue_from={quote(name)}",
        "init_from_codec=0.0",  # the weights know more than the codec
        f"compression_model_checkpoint={quote(own_codec)}",
        *_shape(cfg),
    ]
    count = sum(parameter.numel() for parameter in model.parameters())
    return Origin(name, own_scale, count, overrides, f"begins with {name}: {told}, {count / 1e6:.1f} M parameters")


def _as_named(name: str) -> str:
    """The name as the configuration takes it: what ships here and a folder by the same name are told apart."""
    from ..checkpoints.locate import shipped_lm

    if not name.strip():
        raise UserError("--from is empty; name a model, or leave it out to begin anew")
    if not shipped_lm(name) or name.startswith("//pretrained/"):
        return name
    return f"./{name}" if Path(name).exists() else f"//pretrained/{name}"


def _load(name: str) -> "Package":
    from ..checkpoints.configs import package_config
    from ..checkpoints.locate import NoModel, find_codec, shipped_codec
    from ..checkpoints.packages import is_codec, load_lm_model_ckpt

    a_codec = f"{name} is a codec and makes nothing by itself; --codec {name} trains a model on its codes"
    if shipped_codec(name):
        raise UserError(a_codec)
    folder = Path(name).expanduser()
    if folder.is_dir() and any(folder.glob("*.onnx")):
        raise UserError(
            f"{name} is a player without torch (ONNX), which learns nothing; give what it was exported from"
        )
    try:
        package = load_lm_model_ckpt(name)
    except NoModel as missing:
        if folder.is_dir():
            try:
                find_codec(name)
            except NoModel:
                raise missing from None
            raise UserError(a_codec) from None
        raise
    if is_codec(package_config(package, package["path"])):
        raise UserError(a_codec)
    return package


def _shape(cfg: "DictConfig") -> tp.Iterator[str]:
    """Overrides that describe the model of this config: layers, positions, pattern, codes, rate, reach."""
    import inspect

    from omegaconf import OmegaConf

    from ..environment import resource_dir
    from ..models.lm import LMModel
    from ..modules.transformer import StreamingTransformer, StreamingTransformerLayer
    from ..utils.config import peer_only_keys

    content: tp.Any = OmegaConf.to_container(cfg)
    tree: tp.Any = OmegaConf.to_container(OmegaConf.load(resource_dir("config") / "model/lm/musicgen_lm.yaml"))
    for key in ("sample_rate", "channels", "compression_model_n_q"):
        if content.get(key) is not None:
            yield _override(key, content[key])
    if segment := (content.get("dataset") or {}).get("segment_duration"):
        yield _override("dataset.segment_duration", segment)  # as far as it was taught to reach

    kinds = (LMModel, StreamingTransformer, StreamingTransformerLayer)
    defaults = {each.name: each.default for kind in kinds for each in inspect.signature(kind).parameters.values()}
    node = {key: value for key, value in content["transformer_lm"].items() if key != "q_modeling"}
    ours = {*tree["transformer_lm"], *_SIZE}
    # Keys that a config may leave out mean what its builder takes for them, not what our tree says.
    node |= {key: defaults[key] for key in ours - node.keys() if key in defaults}
    idle = peer_only_keys("musicgen")
    for key, value in node.items():
        if key not in _OF_TRAINING and f"transformer_lm.{key}" not in idle:
            yield ("" if key in ours else "+") + _override(f"transformer_lm.{key}", value)

    pattern = content.get("codebooks_pattern") or {}
    modeling = pattern.get("modeling") or content["transformer_lm"].get("q_modeling")
    yield _override("codebooks_pattern.modeling", modeling)
    kind = "music_lm" if modeling == "musiclm" else modeling
    usual, given = tree["codebooks_pattern"].get(kind, {}), pattern.get(kind) or {}
    # Lists are as long as there are codebooks; null is the provider's own.
    for key, value in ({key: None if isinstance(usual[key], list) else usual[key] for key in usual} | given).items():
        yield ("" if key in usual else "+") + _override(f"codebooks_pattern.{kind}.{key}", value)


def _override(key: str, value: tp.Any) -> str:
    return f"{key}={quote(value) if isinstance(value, str) else json.dumps(value)}"


def _scale_of(size: dict[str, tp.Any]) -> str | None:
    """The scale of ours that has these sizes."""
    from omegaconf import OmegaConf

    from ..environment import resource_dir

    for path in sorted((resource_dir("config") / "model/lm/model_scale").glob("*.yaml")):
        if all(OmegaConf.select(OmegaConf.load(path), f"transformer_lm.{key}") == size[key] for key in _SIZE):
            return path.stem
    return None


def _compare(codec: str, own: str, name: str) -> None:
    """Raise UserError where a codec has other weights than a model's own."""
    import torch

    from ..checkpoints.packages import codec_package

    if codec.removeprefix("//pretrained/") == own.removeprefix("//pretrained/"):
        return
    ours, theirs = (codec_package(each)["best_state"] for each in (codec, own))
    if ours.keys() != theirs.keys() or not all(torch.equal(ours[key].float(), theirs[key].float()) for key in ours):
        raise UserError(f"--codec {codec} is another codec than that of {name}, whose codes it knows; leave it out")
