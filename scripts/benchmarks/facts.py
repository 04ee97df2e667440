"""What no program can beat: the machine's memory and arithmetic, and what a model asks of them.

The floor of the language model is the bytes of the weights that each step reads, by the bandwidth. The caches of
attention and all arithmetic come on top, so with many clips at once the floor lies far below what can be had.
"""

import time
import typing as tp
from functools import partial

if tp.TYPE_CHECKING:
    import torch
    from torch import Tensor

    from audiocraft.models.encodec import CompressionModel

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
_PROBE_BYTES = {"cpu": 512 << 20, "cuda": 2 << 30, "mps": 512 << 20}
_PROBE_SIDE = {"cpu": 2048, "cuda": 8192, "mps": 4096}
_TRIALS = 10


def measure_machine(device: str) -> dict[str, float]:
    """GB/s of memory and GFLOP/s of float32 products (on CUDA also of bfloat16), the best of some trials."""
    import torch

    from audiocraft.environment import share_cores
    from audiocraft.utils.device import resolve_device

    share_cores()
    place = resolve_device(device)
    x = torch.rand(_PROBE_BYTES[place.type] // 4, device=place)
    rows, column = x.view(1 << 12, -1), torch.rand(x.numel() >> 12, device=place)
    copy = torch.empty_like(x)
    # Which of these comes nearest to what the memory gives depends on the machine.
    passes: list[tuple[tp.Callable[[], tp.Any], int]] = [
        (x.sum, 1),
        (x.max, 1),
        (lambda: rows @ column, 1),
        (lambda: copy.copy_(x), 2),
    ]
    facts = {"GB/s": max(times * x.nbytes / _best(work, place) for work, times in passes) / 1e9}
    side = _PROBE_SIDE[place.type]
    for dtype in ("float32", "bfloat16") if place.type == "cuda" else ("float32",):
        # Of equal numbers few wires of a chip change, and it computes faster than it ever would.
        a = torch.randn(side, side, device=place).to(getattr(torch, dtype))
        facts[f"GFLOP/s {dtype}"] = 2 * side**3 / _best(partial(torch.mm, a, a), place) / 1e9
    return {name: round(value, 1) for name, value in facts.items()}


def _best(work: tp.Callable[[], tp.Any], device: "torch.device") -> float:
    """Seconds of the fastest of some calls."""
    seconds = float("inf")
    for _ in range(_TRIALS):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        seconds = min(seconds, time.perf_counter() - began)
    return seconds


def synchronize(device: "torch.device") -> None:
    """Wait until the device has done what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def numbers_per_step(state: tp.Mapping[str, "Tensor"]) -> int:
    """Weights that a decoder must read to make one step, from the tensors of a language model.

    Tables of embeddings count nothing (a few rows of them are read), nor do the projections of a text, whose results
    stay the same over all steps: those before the transformer, and two thirds of each cross-attention's input.
    """
    read = {
        name: value.numel() for name, value in state.items() if not name.startswith(("emb.", "condition_provider."))
    }
    return sum(count // 3 if "cross_attention.in_proj" in name else count for name, count in read.items())


def decoder_flops(codec: "CompressionModel") -> float:
    """Operations (a product and a sum are two) of the codec's decoder per second of sound.

    torch counts those of convolutions as they run; an LSTM's are its weights at every frame.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    frames = round(codec.frame_rate)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        codec.decode(torch.zeros(1, codec.num_codebooks, frames, dtype=torch.long))
    convolutions = sum(
        flops for operation, flops in counter.get_flop_counts()["Global"].items() if "convolution" in str(operation)
    )
    decoder: dict[str, Tensor] = codec.decoder.state_dict()  # type: ignore[union-attr]
    lstm = sum(value.numel() for name, value in decoder.items() if "lstm.weight" in name)
    return (convolutions + 2.0 * lstm * frames) * codec.frame_rate / frames


def describe_model(name: str) -> dict[str, tp.Any]:
    """Parameters, numbers read per step, operations of the decoder, and the steps that delays add."""
    from audiocraft.environment import share_cores
    from audiocraft.models import MusicGen

    share_cores()
    model = MusicGen.get_pretrained(name, "cpu")
    frames = 100
    return {
        "lm_parameters": sum(parameter.numel() for parameter in model.lm.parameters()),
        "codec_parameters": sum(parameter.numel() for parameter in model.compression_model.parameters()),
        "numbers_per_step": numbers_per_step(model.lm.state_dict()),
        "decoder_flops": decoder_flops(model.compression_model),
        "frame_rate": model.frame_rate,
        "extra_steps": model.lm.pattern_provider.get_pattern(frames).max_delay,
        "text": bool(model.lm.condition_provider.text_conditions),
    }
