"""What tests of the player share: its modules, which lie side by side in a folder that is no package, and models."""

import sys
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest
import torch

from audiocraft.models import LMModel
from audiocraft.models.encodec import EncodecModel
from audiocraft.models.musicgen import MusicGen
from audiocraft.modules.codebooks_patterns import CodebooksPatternProvider, DelayedPatternProvider
from audiocraft.modules.conditioners import ConditionFuser, ConditioningProvider
from audiocraft.modules.seanet import SEANetDecoder, SEANetEncoder
from audiocraft.onnx_player.export import PLAYER
from audiocraft.onnx_player.graph import Graph
from audiocraft.quantization import ResidualVectorQuantizer
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
    torch.manual_seed(0)
    options = {
        "n_q": 4,
        "card": 50,
        "dim": 32,
        "num_heads": 2,
        "num_layers": 2,
        "causal": True,
        "norm_first": True,
        "weight_init": "gaussian",
        **kwargs,
    }
    pattern = pattern or DelayedPatternProvider(options["n_q"])
    lm = LMModel(pattern, ConditioningProvider({}), ConditionFuser({}), **options).eval()
    with torch.no_grad():
        for parameter in lm.parameters():  # biases and norms that start at 0 and 1 would hide mistakes
            parameter.add_(torch.randn_like(parameter) * options["dim"] ** -0.5)
    return lm


def make_codec(n_q: int = 4, causal: bool = False, **kwargs) -> EncodecModel:
    """A codec of 600 Hz and 50 frames/s."""
    torch.manual_seed(1)
    shared = {"channels": 1, "dimension": 6, "n_filters": 3, "n_residual_layers": 1, "ratios": [3, 2, 2], "lstm": 2}
    shared |= {"norm": "weight_norm", "causal": causal, **kwargs}
    quantizer = ResidualVectorQuantizer(6, n_q, bins=50, kmeans_init=False)
    encoder, decoder = SEANetEncoder(**shared), SEANetDecoder(**shared)
    codec = EncodecModel(encoder, decoder, quantizer, RATE // HOP, RATE, shared["channels"], causal=causal).eval()
    with torch.no_grad():
        for parameter in codec.decoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return codec


@pytest.fixture(scope="session")
def musicgen() -> MusicGen:
    """A tiny random model that attends to two seconds."""
    return MusicGen("tiny", make_codec(), make_lm(), max_duration=2)


def open_graph(graph: Graph, path: Path) -> onnxruntime.InferenceSession:
    graph.save(path)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
