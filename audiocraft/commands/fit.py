"""`fit`: which sizes of model a machine can train, how, and about how long it takes."""

import math
import os
import shlex
import time
import typing as tp
from pathlib import Path

import typer

from ..errors import UserError
from . import options
from .audio_files import check_file, write_record

if tp.TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

GIB = 2**30
# What the driver and torch's own pool keep of a GPU; the share of a computer's memory for tensors, beside the rest of
# the system and what the C library does not give back at once.
_GPU_KEEPS, _CPU_SHARE = 0.8 * GIB, 0.6
# Of the speed at which large matrices are multiplied, what a training step reaches; and a card of the middle class
# (bfloat16), where none is here.
_REACHED, _GPU_TFLOPS = 0.6, 40.0
# Keys that make a segment need less, from what costs nothing to what costs most.
_AVERAGE_ELSEWHERE, _COMPUTED_TWICE = "optim.ema.device=cpu", "transformer_lm.checkpointing=torch"
_REMEDIES: tuple[tuple[str, ...], ...] = ((), (_AVERAGE_ELSEWHERE,), (_AVERAGE_ELSEWHERE, _COMPUTED_TWICE))


class Plan(tp.NamedTuple):
    """How a scale is trained within a memory: overrides, segments at once, bytes; `most` fit at once in all."""

    overrides: tuple[str, ...]
    at_once: int
    peak: int
    most: int


def fit(
    vram: tp.Annotated[
        float | None, typer.Option("--vram", help="Memory of a GPU in GB, this machine's own where not given.")
    ] = None,
    folder: tp.Annotated[
        Path | None, typer.Option("--folder", help="Audio; also say how long a pass through all of it takes.")
    ] = None,
    scale: tp.Annotated[
        list[str] | None, typer.Option("--scale", help="Look at this size only; may be given several times.")
    ] = None,
    tflops: tp.Annotated[
        float | None,
        typer.Option("--tflops", help="TFLOP/s of large products; measured where not given, for a GPU assumed."),
    ] = None,
    json_file: options.Json = None,
) -> None:
    """Say which sizes of model can be trained here, or on a GPU of so much memory, and with which command.

    Memory is counted on tensors without values: what they take at most in a training step. Times are an estimate from
    the arithmetic alone.

    Example: python -m audiocraft fit --vram 8 --scale micro
    """
    from tqdm import tqdm

    from ..utils.tables import text_table

    check_file(json_file, ".json")
    scales = _scales(scale)
    for name, value in (("--vram", vram), ("--tflops", tflops)):
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{name} {value:g} leaves nothing to train with; give a number above 0, e.g. {name} 8")
    where, memory, bfloat16, speed, source = _machine(vram, tflops)
    seconds = None if folder is None else _seconds(folder)
    rows, commands, records = [], [], []
    for name in tqdm(scales, desc="Sizes", disable=None, leave=False):
        cfg = _config(name)
        segment, batch = cfg.dataset.segment_duration, cfg.dataset.batch_size
        parameters, flops, plan = _plan(name, batch, memory, bfloat16)
        step = batch * flops / speed
        row = [name, f"{parameters / 1e6:.0f} M"]
        row += ["–"] * 3 if plan is None else [f"{plan.peak / GIB:.1f} GiB", str(plan.at_once), str(plan.most)]
        row.append("does not fit" if plan is None else _time(step))
        record = {"scale": name, "parameters": parameters, "step_seconds": step, "plan": plan and plan._asdict()}
        if seconds is not None:
            record["pass_seconds"] = seconds / segment / batch * step
            row.append("–" if plan is None else _time(record["pass_seconds"]))
        rows.append(row)
        records.append(record)
        if plan is not None:
            where_from = shlex.quote(str(folder)) if folder else "FOLDER"
            commands.append(" ".join(["python -m audiocraft train", where_from, "--scale", name, *plan.overrides]))
    typer.echo(f"{where}: {memory / GIB:.1f} GiB for tensors; batches of {batch} segments of {segment:g} s\n")
    head = ["scale", "parameters", "memory", "at once", "at most", "a step"] + ["a pass"] * (seconds is not None)
    typer.echo(text_table(head, rows))
    typer.echo(f"\ntimes are an estimate, at {speed / 1e12:.3g} TFLOP/s ({source})")
    if commands:
        typer.echo("\n".join(["to train one:", *(f"  {command}" for command in commands)]))
    if json_file is not None:
        facts = {"machine": where, "memory": int(memory), "flops_per_second": speed, "scales": records}
        write_record(json_file, facts)
    if not commands:
        raise UserError("none of these sizes fits; try --scale pico, or transformer_lm.dim=… for a size of your own")


def _scales(chosen: list[str] | None) -> tp.Sequence[str]:
    from ..environment import resource_dir

    known = {path.stem for path in (resource_dir("config") / "model/lm/model_scale").glob("*.yaml")}
    if unknown := sorted(set(chosen or ()) - known):
        raise UserError(f"there is no scale {unknown[0]}; choose one of {', '.join(sorted(known))}")
    return chosen or sorted(known, key=lambda name: _width_by_depth(_config(name).transformer_lm))


def _width_by_depth(node: "DictConfig") -> int:
    """What sizes go by."""
    return node.num_layers * node.dim**2


def _config(scale: str, *overrides: str) -> "DictConfig":
    from ..train import main
    from .train import recipe_of

    return main.make_xp([*recipe_of(scale), *overrides]).cfg


def _plan(name: str, batch: int, memory: float, bfloat16: bool) -> tuple[int, float, Plan | None]:
    """Parameters, FLOPs of a segment, and the cheapest way that fits; None where there is none."""
    from ..solvers.memory import TrainingMemory

    for remedy in _REMEDIES:
        need = TrainingMemory(_config(name, *remedy), bfloat16)
        # The average is counted in; where it is kept elsewhere, it takes nothing of this memory.
        room = memory + (4 * need.parameters if _AVERAGE_ELSEWHERE in remedy else 0)
        if need.update - 4 * need.parameters > memory:
            break  # no remedy makes weights, gradients and the optimizer smaller
        if most := need.most_segments(room):
            parts = next(parts for parts in range(1, batch + 1) if -(-batch // parts) <= most)
            at_once = -(-batch // parts)
            overrides = (*remedy, *((f"optim.accumulate={parts}",) if parts > 1 else ()))
            return need.parameters, need.flops, Plan(overrides, at_once, need.peak(at_once) - int(room - memory), most)
    return need.parameters, need.flops, None


def _machine(vram: float | None, tflops: float | None) -> tuple[str, float, bool, float, str]:
    """Its name, bytes for tensors, whether it computes in bfloat16, FLOP/s of a step, and where that number is from."""
    import torch

    from ..utils.device import Autocast, resolve_device

    given = None if tflops is None else (_REACHED * tflops * 1e12, f"{_REACHED:.0%} of --tflops {tflops:g}")
    if vram is not None:
        speed, source = given or (_REACHED * _GPU_TFLOPS * 1e12, f"{_REACHED:.0%} of {_GPU_TFLOPS:g}, a mid-range card")
        return f"a GPU of {vram:g} GB", max(0.0, vram * GIB - _GPU_KEEPS), True, speed, source
    device = resolve_device("auto")
    autocast = Autocast(True, "auto", device)
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        where, memory = torch.cuda.get_device_name(device), max(0.0, total - _GPU_KEEPS)
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        where, memory = f"this machine ({device}, {total / GIB:.0f} GiB)", _CPU_SHARE * total
    else:
        raise UserError("this system does not tell how much memory it has; give it with --vram")
    speed, source = given or (
        _REACHED * _measured(autocast.dtype if autocast.enabled else torch.float32, device),
        f"{_REACHED:.0%} of what products of matrices reach here",
    )
    return where, memory, autocast.enabled, speed, source


def _measured(dtype: "torch.dtype", device: "torch.device") -> float:
    """FLOP/s of products of large matrices."""
    import torch

    size, best = 1024, math.inf
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    for _ in range(12):
        began = time.perf_counter()
        float((left @ right)[0, 0])  # a GPU is waited for
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def _seconds(folder: Path) -> float:
    from ..data.scan import scan_folder

    report = scan_folder(folder, workers=4, progress=True, resolve=True)
    return sum(item.duration for item in report.meta)


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
