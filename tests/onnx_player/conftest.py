"""What tests of the player share: its modules, which lie side by side in a folder that is no package, and models."""

import sys
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest
from tiny import shake, tiny_encodec, tiny_lm

from audiocraft.models import LMModel
from audiocraft.models.encodec import EncodecModel
from audiocraft.models.musicgen import MusicGen
from audiocraft.modules.codebooks_patterns import CodebooksPatternProvider
from audiocraft.onnx_player.export import PLAYER
from audiocraft.onnx_player.graph import Graph
from audiocraft.utils import takes

RATE, HOP = 600, 12


@pytest.fixture(scope="session")
def player_code() -> SimpleNamespace:
    """The player's modules: `player`, `engine`, `generation`."""
    import importlib

    sys.modules["takes"] = takes  # copied beside the others by an export
    sys.path.insert(0, str(PLAYER))
    try:
        return SimpleNamespace(**{name: importlib.import_module(name) for name in ("generation", "engine", "player")})
    finally:
        sys.path.remove(str(PLAYER))


def make_lm(pattern: CodebooksPatternProvider | None = None, **kwargs) -> LMModel:
    lm = tiny_lm(pattern, **kwargs)
    shake(lm, lm.dim**-0.5)
    return lm


def make_codec(**kwargs) -> EncodecModel:
    """A codec of 600 Hz and 50 frames/s."""
    settings = {"n_filters": 3, "ratios": [3, 2, 2], "lstm": 2, "norm": "weight_norm", **kwargs}
    codec = tiny_encodec(RATE, n_q=4, bins=50, **settings)
    shake(codec.decoder, 0.1)
    return codec


@pytest.fixture(scope="session")
def musicgen() -> MusicGen:
    """A tiny random model that attends to two seconds."""
    return MusicGen("tiny", make_codec(), make_lm(), max_duration=2)


def open_graph(graph: Graph, path: Path) -> onnxruntime.InferenceSession:
    graph.save(path)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
