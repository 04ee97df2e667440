"""Single steps timed: of the token decoder against the memory's bandwidth, of training against the arithmetic."""

import statistics
import time
import typing as tp

from .facts import BYTES, numbers_per_step, synchronize

if tp.TYPE_CHECKING:
    import torch

    from audiocraft.models.lm import LMModel

# Steps between two looks at the clock. The few of them in which graphs are recorded do not move the median.
_BLOCK = 20
_FRAMES = 500
_WARM_STEPS, _TIMED_STEPS = 3, 10


def decode(model: str, device: str, precision: str, batch: int, graphs: bool) -> dict[str, tp.Any]:
    """`time_decode` of a model's language model on a device."""
    from audiocraft.environment import share_cores
    from audiocraft.models.loaders import load_lm_model
    from audiocraft.utils.device import resolve_device

    share_cores()
    return time_decode(load_lm_model(model, resolve_device(device)), precision, batch, graphs)


def train(scale: str, device: str, precision: str, batch: int, seconds: float) -> dict[str, tp.Any]:
    """`time_training` on a device."""
    from audiocraft.environment import share_cores
    from audiocraft.utils.device import resolve_device

    share_cores()
    return time_training(scale, resolve_device(device), precision, batch, seconds)


def time_decode(lm: "LMModel", precision: str, batch: int, graphs: bool, frames: int = _FRAMES) -> dict[str, tp.Any]:
    """Seconds per step of the token decoder while it draws `frames`, the codec left out.

    Returns:
        `step_s`: the median of blocks of steps, `worst_s`, `all_s` for all of them (recording of graphs included),
        `bytes`: of the weights that a step reads, `precision` as it was resolved.
    """
    from audiocraft.models.fast import FastLM
    from audiocraft.models.generate import TokenDecoder
    from audiocraft.modules.sampling import SamplingParams

    playing = FastLM(lm, precision)
    decoder = TokenDecoder(playing, SamplingParams(True, 1.0, 250, 0.0), graphs=graphs)
    device = lm.device
    for warm in (True, False):
        state = decoder.start(num_samples=batch, frames=_BLOCK if warm else frames, seed=0)
        synchronize(device)
        began = last = time.perf_counter()
        blocks, steps = [], 0
        while state.step < state.num_steps:
            count = min(_BLOCK, state.num_steps - state.step)
            for _ in range(count):
                decoder.step(state)
            synchronize(device)
            now = time.perf_counter()
            blocks.append((now - last) / count)
            last, steps = now, steps + count
    return {
        "step_s": statistics.median(blocks),
        "worst_s": max(blocks),
        "all_s": last - began,
        "steps": steps,
        "bytes": numbers_per_step(lm.state_dict()) * BYTES[playing.precision],
        "precision": playing.precision,
    }


def time_training(
    scale: str, device: "torch.device", precision: str, batch: int, seconds: float, timed: int = _TIMED_STEPS
) -> dict[str, tp.Any]:
    """Seconds of a training step of a scale, the codec left out: forward, backward, optimizer.

    Returns:
        `step_s`: the median; `flops`: of a step, three passes over all products of the language model, attention
        counted where it looks (the past alone); `vram_mib` on CUDA.
    """
    import torch

    from audiocraft.models import builders
    from audiocraft.solvers.builders import get_optimizer
    from audiocraft.solvers.musicgen import compute_cross_entropy
    from audiocraft.train import main as dora_main
    from audiocraft.utils.device import Autocast

    cfg = dora_main.make_xp(["solver=musicgen/micro_32khz", f"model/lm/model_scale={scale}"]).cfg
    torch.manual_seed(0)
    lm = builders.get_lm_model(cfg).to(device).train()
    optimizer = get_optimizer(lm, cfg.optim)
    autocast = Autocast(precision != "float32", "auto" if precision == "float32" else precision, device)
    scaler = torch.amp.GradScaler(device.type, enabled=autocast.needs_scaler)
    codes = torch.randint(lm.card, (batch, lm.n_q, round(50 * seconds)), device=device)
    took = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(_WARM_STEPS + timed):
        synchronize(device)
        began = time.perf_counter()
        with autocast():
            out = lm.compute_predictions(codes, [])
            loss, _ = compute_cross_entropy(out.logits, codes, out.mask)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        synchronize(device)
        took.append(time.perf_counter() - began)
    assert torch.isfinite(loss), f"{precision}: the loss is {loss}"
    width, layers, steps = cfg.transformer_lm.dim, cfg.transformer_lm.num_layers, codes.shape[-1]
    products = numbers_per_step(lm.state_dict()) * steps
    attention = layers * width * steps**2  # queries by keys and weights by values, each step the half before it
    facts = {"step_s": statistics.median(took[_WARM_STEPS:]), "flops": 3 * 2 * batch * (products + attention)}
    if device.type == "cuda":
        facts["vram_mib"] = torch.cuda.max_memory_reserved(device) / 2**20
    return facts
