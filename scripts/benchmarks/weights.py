"""Models to measure: the published ones where the hub answers, else random weights of the same shapes.

A random model is a folder in the peer's layout: `state_dict.bin`, `compression_state_dict.bin` (the full 32 kHz codec)
and, where the scale listens to text, `t5/`: an encoder of t5-base's shape. The tokenizer of that T5 is the small one of
the tests (t5-base's own is not in this repository), so a text is a few tokens longer than with the real one.
"""

import json
import shutil
import typing as tp
from dataclasses import dataclass
from pathlib import Path

from . import ROOT
from .process import ProcessFailed, measured

SCALES = ("pico", "nano", "micro", "xsmall", "small", "medium", "large")
# Scales that the peer publishes with text; the smaller ones here are unconditional.
TEXT_SCALES = ("small", "medium", "large")
HUB_NAMES = {
    "micro": "pharoAIsanders420/micro-musicgen-jungle",
    **{scale: f"facebook/musicgen-{scale}" for scale in TEXT_SCALES},
}
CODEC = "solver=compression/encodec_musicgen_32khz"
TINY_CODEC = "solver=compression/debug"
T5_BASE: dict[str, tp.Any] = {
    "vocab_size": 32128,
    "d_model": 768,
    "d_kv": 64,
    "d_ff": 3072,
    "num_layers": 12,
    "num_heads": 12,
}
TOKENIZER = ROOT / "tests" / "golden" / "lm_text" / "t5" / "spiece.model"
_WHOLE = "random.json"  # written last: a folder that has it is whole


@dataclass
class Source:
    """A model to measure: what people call it, where it is, and whether its weights are `published` or `random`."""

    name: str
    path: str
    weights: str


def find_model(name: str, weights: str, folder: Path) -> Source:
    """The model of that name.

    Args:
        name: a scale (`micro`, `small`, …), or a model's folder, signature or hub id.
        weights: `hub` takes published weights or stops, `random` never asks the hub, `auto` takes what it gets.
        folder: where random models are kept; one that is there is used again.
    Raises:
        ProcessFailed: there is none.
    """
    if name not in SCALES:
        return Source(Path(name).name, name, "as given")
    if weights != "random" and name in HUB_NAMES:
        try:
            measured("weights.find_published", name=HUB_NAMES[name])
            return Source(name, HUB_NAMES[name], "published")
        except ProcessFailed:
            if weights == "hub":
                raise
    elif weights == "hub":
        raise ProcessFailed(f"nobody publishes {name}; use --weights auto or random")
    path = folder / f"{name}-random"
    if not (path / _WHOLE).is_file():
        measured("weights.make_random", scale=name, folder=path)
    return Source(name, str(path), "random")


def make_random(scale: str, folder: str | Path, tiny: bool = False) -> None:
    """Write a model with random weights; equal for equal scales.

    Args:
        scale: of the language model.
        folder: gets the files; one that a broken-off run left is made anew.
        tiny: a codec and T5 of a few thousand parameters, for tests.
    """
    import torch

    from audiocraft import __version__
    from audiocraft.checkpoints.configs import export_config
    from audiocraft.checkpoints.locate import CODEC_FILE, LM_FILE
    from audiocraft.models import builders
    from audiocraft.train import main as dora_main

    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with_text = scale in TEXT_SCALES
    codec_cfg = dora_main.make_xp([TINY_CODEC, "sample_rate=32000", "rvq.bins=2048"] if tiny else [CODEC]).cfg
    torch.manual_seed(1)
    codec = builders.get_compression_model(codec_cfg)
    _save(folder / CODEC_FILE, codec, export_config(codec_cfg), __version__)
    lm_cfg = dora_main.make_xp(
        [
            "solver=musicgen/musicgen_base_32khz",
            f"model/lm/model_scale={scale}",
            f"conditioner={'text2music' if with_text else 'none'}",
            f"transformer_lm.n_q={codec.num_codebooks}",
        ]
    ).cfg
    if with_text:
        make_random_t5(folder / "t5", tiny)
        # Its width has to be known while the model is built; in the file the name is relative to the folder.
        lm_cfg.conditioners.description.t5.name = str(folder / "t5")
    torch.manual_seed(0)
    lm = builders.get_lm_model(lm_cfg)
    if with_text:
        lm_cfg.conditioners.description.t5.name = "./t5"
    _save(folder / LM_FILE, lm, export_config(lm_cfg), __version__)
    (folder / _WHOLE).write_text(json.dumps({"scale": scale, "version": __version__}) + "\n")


def make_random_t5(folder: Path, tiny: bool = False) -> None:
    """A text encoder of t5-base's shape."""
    import torch
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(2)
    shape = {**T5_BASE, "d_model": 64, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 2} if tiny else T5_BASE
    T5EncoderModel(T5Config(**shape, feed_forward_proj="relu", dropout_rate=0.1)).save_pretrained(folder)
    shutil.copyfile(TOKENIZER, folder / TOKENIZER.name)


def find_published(name: str) -> None:
    """Have a published model, its codec and its text encoder in the hub's cache.

    Raises:
        UserError: it cannot be had.
    """
    from audiocraft.models import MusicGen

    model = MusicGen.get_pretrained(name, "cpu")
    conditioners = model.lm.condition_provider
    texts = conditioners.text_conditions
    if texts:  # a text brings its T5 here
        from audiocraft.modules.conditioners import ConditioningAttributes

        conditioners.tokenize([ConditioningAttributes(text=dict.fromkeys(texts, "a drum"))])


def _save(path: Path, model: tp.Any, config: str, version: str) -> None:
    import torch

    torch.save({"best_state": model.state_dict(), "xp.cfg": config, "version": version, "exported": True}, path)
