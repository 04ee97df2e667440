"""Models of a few thousand random weights, for tests that need some model; and a process that knows no torch."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from audiocraft import __version__, train
from audiocraft.models import LMModel, builders
from audiocraft.models.encodec import EncodecModel
from audiocraft.modules.codebooks_patterns import CodebooksPatternProvider, DelayedPatternProvider
from audiocraft.modules.conditioners import ConditionFuser, ConditioningProvider
from audiocraft.modules.seanet import SEANetDecoder, SEANetEncoder
from audiocraft.quantization import ResidualVectorQuantizer

RATE = 16000
"""Hz of the codec that `write_codec` writes."""

# A process in which torch, and this package, cannot be imported.
_ALONE = """
import runpy, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "audiocraft", "onnx", "soundfile", "scipy"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_player(folder: Path, *arguments: str, **kwargs: Any) -> subprocess.CompletedProcess:
    """The player of a folder, where nothing but numpy and onnxruntime can be imported."""
    command = [sys.executable, "-c", _ALONE, str(folder / "player.py"), *arguments]
    return subprocess.run(command, **{"capture_output": True, "timeout": 60, **kwargs})


def tiny_encodec(
    rate: int = 120, n_q: int = 3, bins: int = 8, renormalize: bool = False, **seanet: Any
) -> EncodecModel:
    """A codec of `rate` Hz, at which long files are small; everything else is for encoder and decoder."""
    torch.manual_seed(0)
    seanet = {"channels": 1, "dimension": 6, "n_filters": 2, "n_residual_layers": 1, "ratios": [3, 2], **seanet}
    quantizer = ResidualVectorQuantizer(seanet["dimension"], n_q, bins=bins, kmeans_init=False)
    encoder, decoder = SEANetEncoder(**seanet), SEANetDecoder(**seanet)
    settings = {"channels": seanet["channels"], "causal": seanet.get("causal", False), "renormalize": renormalize}
    return EncodecModel(encoder, decoder, quantizer, rate // math.prod(seanet["ratios"]), rate, **settings).eval()


def tiny_lm(pattern: CodebooksPatternProvider | None = None, **options: Any) -> LMModel:
    """A language model of four codebooks of 50 codes."""
    torch.manual_seed(0)
    options = {"n_q": 4, "card": 50, "dim": 32, "num_heads": 2, "num_layers": 2, "causal": True, **options}
    options = {"norm_first": True, "weight_init": "gaussian", **options}
    pattern = pattern or DelayedPatternProvider(options["n_q"])
    return LMModel(pattern, ConditioningProvider({}), ConditionFuser({}), **options).eval()


@torch.no_grad()
def shake(module: torch.nn.Module, amount: float) -> None:
    """Move all weights: biases and norms that start at 0 and 1 would hide mistakes."""
    for parameter in module.parameters():
        parameter.add_(amount * torch.randn_like(parameter))


def write_codec(folder: Path, seed: int = 0) -> Path:
    """An export of a tiny codec with random weights: 16 kHz, 25 frames/s, 4 codebooks of 64."""
    cfg = train.main.make_xp(["solver=compression/debug", "dset=audio/example", f"sample_rate={RATE}"]).cfg
    torch.manual_seed(seed)
    model = builders.get_compression_model(cfg)
    for layer in model.quantizer.vq.layers:  # type: ignore[attr-defined]
        layer._codebook.embed.normal_(std=0.1)
        layer._codebook.inited.fill_(1)
    folder.mkdir()
    package = {
        "best_state": model.state_dict(),
        "xp.cfg": OmegaConf.to_yaml(cfg, resolve=True),
        "version": __version__,
        "exported": True,
    }
    torch.save(package, folder / "compression_state_dict.bin")
    return folder
