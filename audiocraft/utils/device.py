"""Which device computes, and how mixed precision runs there."""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from typing import Any

import torch

from ..errors import UserError


def resolve_device(name: str | torch.device | None = "auto") -> torch.device:
    """The device of that name; `auto` (or None) takes cuda if torch has kernels for it, else mps, else cpu. CUDA's
    current device becomes the one with that number.

    Raises:
        UserError: no such device here, or one that torch has no kernels for.
    """
    if name is None or str(name) == "auto":
        if torch.cuda.is_available():
            if (reason := no_kernels(torch.device("cuda"))) is None:
                return torch.device("cuda")
            _say_once(f"{reason}; computing on the CPU")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device={name} is no device; use auto, cpu, cuda or mps") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device={name} is not served; use auto, cpu, cuda or mps")
    missing = (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise UserError(f"device={name} was asked for but torch {torch.__version__} sees none; use device=auto or cpu")
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise UserError(f"device={name} was asked for but the last one here is cuda:{last}; use that or device=auto")
    if device.type == "cuda":
        if reason := no_kernels(device):
            raise UserError(f"device={name} was asked for but {reason}; use device=cpu")
        if device.index is not None:
            torch.cuda.set_device(device)  # else streams, pinned memory and the like go to the first card
    return device


def no_kernels(device: torch.device) -> str | None:
    """Why torch cannot compute on a CUDA device that is there; None if it can.

    Kernels made for sm_86 run on 8.6 and later of 8; those kept as compute_90 are translated for 9.0 and all later.
    """
    arches = [arch.rstrip("af") for arch in torch.cuda.get_arch_list()]
    made = [(kind, divmod(int(number), 10)) for kind, _, number in (arch.partition("_") for arch in arches) if number]
    have = torch.cuda.get_device_capability(device)
    fits = any(at <= have and (kind == "compute" or at[0] == have[0]) for kind, at in made)
    if fits or not made:  # AMD's have other names
        return None
    return (
        f"torch {torch.__version__} has no kernels for {torch.cuda.get_device_name(device)} (compute capability "
        f"{have[0]}.{have[1]}; it has {', '.join(arches)}): install a torch that has them (https://pytorch.org)"
    )


@cache
def _say_once(text: str) -> None:
    logging.getLogger(__name__).warning("%s", text)


def codec_device(name: str | torch.device | None = "auto") -> torch.device:
    """Where a codec computes if its language model, or whatever asks, is on the device of that name: not on mps, whose
    convolutions refuse many channels and whose quantisers have been seen to give wrong codes. As `resolve_device`."""
    device = resolve_device(name)
    return torch.device("cpu") if device.type == "mps" else device


def upload(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`x` of the CPU on `device`, behind what a GPU has to do, and without waiting for that."""
    if device.type == "cuda" and not x.is_pinned():
        x = x.pin_memory()  # from other memory CUDA may copy at once, and wait
    return x.to(device, non_blocking=True)


class ForkGuard:
    """Knows in which process torch's threads first worked: where it is forked afterwards, the child waits for threads
    that it does not have, for ever."""

    def __init__(self) -> None:
        self._process: int | None = None

    def check(self) -> None:
        """Call this before work that uses threads.

        Raises:
            UserError: this is the child of a process that called it, and not one that loads data: these use no threads.
        """
        if self._process is None:
            self._process = os.getpid()
        elif self._process != os.getpid() and torch.get_num_threads() > 1:
            raise UserError(
                "generating in a forked process would wait for ever, since the model was made before the fork; start "
                "processes by spawn (multiprocessing.get_context('spawn')), or call torch.set_num_threads(1) in them"
            )


fork_guard = ForkGuard()


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 (avx512_bf16 or AMX), about twice as fast as in float32."""
    # torch 2.6 has no public names for these; a later one without them trains in float32.
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in tests)


class Autocast:
    """Mixed precision as the configuration asks for and the device can give. `enabled` and `dtype` say what came out.

    Args:
        enabled: `autocast` of the configuration.
        dtype: `autocast_dtype`: float16, bfloat16 or auto (bfloat16 where the device computes in it, else on a GPU
            float16 and on a CPU none).
        device: where the model is. On a CPU float16 is off, as it is slower there than float32; so is bfloat16 without
            the instructions for it, and yet it is used where it is named. On mps mixed precision is off (untested).
    """

    def __init__(self, enabled: bool, dtype: str, device: torch.device) -> None:
        choices = {"float16": torch.float16, "bfloat16": torch.bfloat16, "auto": None}
        if dtype not in choices:
            raise UserError(f"autocast_dtype={dtype} is not one of {', '.join(choices)}")
        chosen = choices[dtype]
        if device.type == "cuda":
            native_bf16 = torch.cuda.get_device_capability(device)[0] >= 8
            self.dtype = chosen or (torch.bfloat16 if native_bf16 else torch.float16)
            self.enabled = enabled
        else:
            self.dtype = torch.bfloat16
            wanted = dtype == "bfloat16" or (dtype == "auto" and cpu_has_bfloat16())
            self.enabled = enabled and device.type == "cpu" and wanted
        self.device = device

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{name} where it is safe, weights in float32" if self.enabled else "float32"

    @property
    def needs_scaler(self) -> bool:
        """float16 gradients underflow without a scaled loss; bfloat16 ones do not."""
        return self.enabled and self.dtype == torch.float16

    def __call__(self) -> AbstractContextManager:
        """The context to compute in."""
        if not self.enabled:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


@contextmanager
def full_float32() -> Iterator[None]:
    """In here convolutions and LSTMs of float32 tensors compute in float32 throughout.

    Otherwise cuDNN, as torch sets it, rounds their factors to TF32 (10 bits after the point) on GPUs that have it.
    Matrix products are not touched: torch computes them in full unless `torch.set_float32_matmul_precision` was called.
    The switch is that of the whole process; leaving puts it back.
    """
    cudnn: Any = torch.backends.cudnn
    switches: list[tuple[Any, str]] = [(cudnn, "allow_tf32")]
    if hasattr(cudnn, "conv"):  # torch 2.9 gave each kind of layer its own; the old one has to agree with them
        switches += [(cudnn.conv, "fp32_precision"), (cudnn.rnn, "fp32_precision")]
    full = {"allow_tf32": False, "fp32_precision": "ieee"}
    before = []
    for owner, name in switches:
        with suppress(RuntimeError):  # torch refuses to tell the old one where the user has set the new ones apart
            before.append((owner, name, getattr(owner, name)))
    try:
        for owner, name, _ in before:
            setattr(owner, name, full[name])
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
