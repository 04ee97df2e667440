"""A model as a folder that plays without torch: `pip install numpy onnxruntime`, `python player.py`.

lm.onnx         the language model's step (onnx_lm)
features.onnx   the codec's decoder (onnx_codec), codes to features
sound.onnx      and features to sound; of a spectral codec, instead of both, codec.npz and sines.py
*.weights       the weights of each, mapped when it is loaded
player.json     what a player has to know, and the files' sizes
player.py …     the player, copied from `player/`, and what it shares with the commands (takes)
"""

import shutil
import tempfile
import typing as tp
from pathlib import Path

import numpy as np
import torch

from .. import __version__
from ..errors import UserError
from ..models.export import export_model
from ..models.genmodel import count_frames
from ..models.lm import LMModel
from ..models.musicgen import MusicGen
from ..utils import takes
from ..utils.files import disk_told, write_json
from .codec import CodecParts, codec_parts
from .graph import Graph
from .lm import lm_graph

FORMAT = 2
PLAYER = Path(__file__).with_name("player")
QUANTIZE = ("int8", "none")
FACTS_FILE = "player.json"


def export_player(model: MusicGen, out_dir: str | Path, quantize: str = "int8", replace: bool = False) -> Path:
    """Write a model as a player's folder.

    Args:
        model: on the CPU, in float32.
        out_dir: the folder; made if it is missing.
        quantize: `int8` keeps the language model's matrices in 8 bits, a scale for each column; `none` in float32.
            The codec is float32 always.
        replace: also replace a player that is there.
    Returns:
        The folder.
    Raises:
        UserError: the model cannot be played so, another player in that folder, a folder that cannot be written, a
            full disk.
    """
    if quantize not in QUANTIZE:
        raise UserError(f"--quantize {quantize} is not served; choose one of {', '.join(QUANTIZE)}")
    out_dir = Path(out_dir)
    _check_free(out_dir, replace)
    lm, codec = model.lm, model.compression_model
    parts = codec_parts(codec)
    window = count_frames(model.max_duration, model.frame_rate)
    delays = _delays(lm)
    facts: dict[str, tp.Any] = {
        "format": FORMAT,
        "version": __version__,
        "model": model.name,
        "quantize": quantize,
        "sample_rate": model.sample_rate,
        "channels": model.audio_channels,
        "frame_rate": model.frame_rate,
        "hop_length": codec.hop_length,
        "n_q": lm.n_q,
        "card": lm.card,
        "delays": delays,
        "window_frames": window,
        "stride_frames": model.stride_frames(window),
        **parts.facts,
    }
    if model.own_sampling:
        facts["sampling"] = model.own_sampling
    with _telling(out_dir):
        _write(out_dir, {"lm": lm_graph(lm, quantize, window + max(delays)), **parts.graphs}, parts, facts)
    return out_dir


def export_named_player(
    name: str,
    out_dir: str | Path,
    quantize: str = "int8",
    state: str | None = None,
    epoch: int | None = None,
    replace: bool = False,
    sampling: tp.Mapping[str, tp.Any] | None = None,
) -> Path:
    """As `export_player`, for a model by its name: a folder, a run or a hub id.

    Args:
        state, epoch, sampling: see `audiocraft.models.export.export_model`.
    """
    _check_free(Path(out_dir), replace)
    with tempfile.TemporaryDirectory() as temporary:
        written = state is not None or epoch is not None or sampling
        source = str(export_model(name, temporary, state, epoch, sampling=sampling)) if written else name
        model = MusicGen.get_pretrained(source, "cpu")
        model.name = name
        return export_player(model, out_dir, quantize, replace)


def _telling(out_dir: Path) -> tp.ContextManager[None]:
    """Context in which what the system says of the folder becomes a UserError."""
    return disk_told(f"the disk is full, no player was written to {out_dir}; free some space and try again", out_dir)


def _write(out_dir: Path, graphs: dict[str, Graph], parts: CodecParts, facts: dict[str, tp.Any]) -> None:
    """Write all files beside a player that may be there, then put them in its place."""
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".player.", dir=out_dir) as temporary:
        folder = Path(temporary)
        for name, graph in graphs.items():
            graph.save(folder / f"{name}.onnx")
        if parts.tables:
            np.savez(folder / "codec.npz", **parts.tables)  # type: ignore[arg-type]
        facts["files"] = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
        for file in [*sorted(PLAYER.glob("*.py")), Path(takes.__file__), *parts.modules]:
            shutil.copyfile(file, folder / file.name)
        # Without its facts a folder is no player: they go first and come last.
        (out_dir / FACTS_FILE).unlink(missing_ok=True)
        for file in sorted(folder.iterdir()):
            file.replace(out_dir / file.name)
        write_json(out_dir / FACTS_FILE, facts)


def _check_free(folder: Path, replace: bool) -> None:
    """Refuse a place that cannot be a folder, and one with a player that is not to be replaced."""
    with _telling(folder):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file; give another --out")
        if (folder / FACTS_FILE).exists() and not replace:
            raise UserError(f"{folder} holds a player; give another --out, or --replace")


def _delays(lm: LMModel) -> list[int]:
    """By how many steps each codebook comes later than it could.

    Raises:
        UserError: the model lays codes out otherwise.
    """
    provider = lm.pattern_provider
    delays = [int(step) - 1 for step in provider.get_pattern(8).step_of[:, 0]]
    for frames in (1, 8):
        steps = torch.arange(frames + max(delays) + 1)
        held = steps - 1 - torch.tensor(delays)[:, None]
        held = held.masked_fill((held < 0) | (held >= frames), -1)
        if not torch.equal(provider.get_pattern(frames).frame_of, held):
            raise UserError(
                f"the player knows codebooks that follow each other by delays, not {type(provider).__name__}; "
                "use python -m audiocraft generate"
            )
    return delays
