"""How large models are: parameters, files, memory. `size.py` is the door."""

import tempfile
import typing as tp
from pathlib import Path

from .engines import Engine
from .process import ProcessFailed, measured
from .record import Session
from .weights import CODEC, TEXT_SCALES, Source, find_model

if tp.TYPE_CHECKING:
    from audiocraft.models.encodec import CompressionModel
    from audiocraft.models.lm import LMModel

# Scales that are built: their files are weighed and their memory is measured; of the others it would take long.
BUILT_SCALES = ("xsmall", "pico", "nano", "micro", "small")
MEMORY_ENGINES = ("torch", "player-int8")
MEMORY_BATCH, MEMORY_SECONDS = 10, 10.0
_WEIGHT_FILES = (".bin", ".safetensors", ".onnx", ".weights")


def language_model(scale: str) -> "LMModel":
    """The language model of that scale, shapes only."""
    from audiocraft.checkpoints.weights import without_values
    from audiocraft.models import builders
    from audiocraft.train import main as dora_main

    conditioner = "text2music" if scale in TEXT_SCALES else "none"
    settings = ["solver=musicgen/musicgen_base_32khz", f"model/lm/model_scale={scale}", f"conditioner={conditioner}"]
    with without_values("meta"):
        return builders.get_lm_model(dora_main.make_xp(settings).cfg)


def full_codec() -> "CompressionModel":
    """The codec of the published models, its weights whatever was in memory."""
    from audiocraft.checkpoints.weights import without_values
    from audiocraft.models import builders
    from audiocraft.train import main as dora_main

    with without_values("cpu"):  # weight normalisation takes norms
        return builders.get_compression_model(dora_main.make_xp([CODEC]).cfg).eval()


def count(scale: str) -> dict[str, tp.Any]:
    """Numbers in a language model of that scale and in the full 32 kHz codec, built without values.

    Returns:
        `lm`, `codec`: parameters; `lm_state`, `codec_state`: all numbers that a file holds, `lm_matrices` those of
        `lm_state` that int8 makes one byte, `lm_tables` those that it makes two; `text`: whether it listens to text
        (T5 is no part of it).
    """
    lm, codec = language_model(scale), full_codec()
    state = lm.state_dict()
    return {
        "scale": scale,
        "text": scale in TEXT_SCALES,
        "lm": sum(parameter.numel() for parameter in lm.parameters()),
        "codec": sum(parameter.numel() for parameter in codec.parameters()),
        "lm_state": sum(value.numel() for value in state.values()),
        "lm_tables": sum(value.numel() for name, value in state.items() if name.startswith("emb.")),
        "lm_matrices": sum(v.numel() for name, v in state.items() if v.dim() == 2 and not name.startswith("emb.")),
        "codec_state": sum(value.numel() for value in codec.state_dict().values()),
        "codec_decoder": sum(value.numel() for value in codec.decoder.state_dict().values()),  # type: ignore[union-attr]
    }


def file_bytes(counted: dict[str, tp.Any]) -> dict[str, int]:
    """Bytes of a model folder in each format, from its numbers: codec included, headers (a few KB) not.

    The ONNX player plays no models with text.
    """
    whole = counted["lm_state"] + counted["codec_state"]
    files = {"peer, float32": 4 * whole, "safetensors, float32": 4 * whole, "peer, float16": 2 * whole}
    if counted["text"]:
        return files
    # A player needs the codec's decoder and codebooks, of which a codec keeps a running sum beside them.
    decoder = 4 * (counted["codec_decoder"] + (counted["codec_state"] - counted["codec"]) // 2)
    matrices, tables = counted["lm_matrices"], counted["lm_tables"]
    return {
        **files,
        "ONNX, float32": 4 * counted["lm_state"] + decoder,
        "ONNX, int8": matrices + 2 * tables + 4 * (counted["lm_state"] - matrices - tables) + decoder,
    }


def count_all(scales: tp.Sequence[str]) -> list[dict[str, tp.Any]]:
    """`count` of each scale."""
    return [count(scale) for scale in scales]


def measure(scales: tp.Sequence[str], built: tp.Sequence[str], out: Path) -> None:
    """Count all `scales`; build those of `built`, weigh their files and play them; add it to OUT/size.jsonl."""
    session = Session(out / "size.jsonl")
    print(f"… counting {', '.join(scales)}", flush=True)
    for counted in measured("sizes.count_all", scales=list(scales)):
        weighed = _build_and_play(counted["scale"], out, session) if counted["scale"] in built else {}
        session.note("scale", **counted, files={**file_bytes(counted), **weighed}, weighed=list(weighed))


def _build_and_play(scale: str, out: Path, session: Session) -> dict[str, int]:
    """Play ten clips with each engine and write down the peak of memory: bytes of the folders that were made for it."""
    weighed: dict[str, int] = {}
    try:
        source: Source = find_model(scale, "random", out / "weights")
    except ProcessFailed as error:
        print(f"skipped: {scale}: {error}")
        return weighed
    weighed["peer, float32"] = weigh(Path(source.path))
    for name in MEMORY_ENGINES[: 1 if scale in TEXT_SCALES else None]:
        engine = Engine(name, source, "cpu", out / "weights")
        print(f"… {scale}, {name}: {MEMORY_BATCH} clips of {MEMORY_SECONDS:g} s", end="", flush=True)
        try:
            engine.prepare()
            if engine.is_player:
                weighed[f"ONNX, {engine.precision}"] = weigh(engine.folder)
            with tempfile.TemporaryDirectory() as clips:
                played = engine.whole(MEMORY_BATCH, MEMORY_SECONDS, Path(clips))
        except ProcessFailed as error:
            print(f"\nskipped: {scale}, {name}: {error}")
            continue
        print(f": {played['peak_mib']:.0f} MiB")
        kept = {key: played.get(key) for key in ("precision", "peak_mib", "total")}
        session.note("memory", scale=scale, engine=name, **kept)
    return weighed


def weigh(folder: Path) -> int:
    """Bytes of the weights in a model folder; a text encoder beside them is no part of the model."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.suffix in _WEIGHT_FILES)
