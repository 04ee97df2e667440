"""A model folder, loaded and played; part of a player, which needs numpy and onnxruntime only."""

import json
import math
import os
import shlex
import threading
import time
import typing as tp
from pathlib import Path

import numpy as np
import onnxruntime as ort
from generation import Array, Clock, Decoding, LanguageModel, PlayerError, draw_codes
from takes import Sampling, most_seconds

if tp.TYPE_CHECKING:
    from sines import SinesDecoder

FORMAT = 2
# Frames decoded at once: few at first, so that sound begins early; many later, which is faster and still in bounds.
FIRST_PIECE, LARGEST_PIECE = 10, 100
CODECS = ("encodec", "spectral")
# What player.json says, and what part of it is like.
_TEXTS = ("model", "quantize")
_COUNTS = ("sample_rate", "channels", "hop_length", "n_q", "card", "window_frames", "stride_frames", "least_frames")
_PAIRS = ("features_margins", "sound_margins", "lstm")


class Player:
    """A model folder, loaded.

    Args:
        folder: as the export wrote it.
        threads: for the heavy operators, at most one per logical core; None takes one per physical core.
    Raises:
        PlayerError: it is no such folder, or a file in it is missing or damaged.
    """

    def __init__(self, folder: Path, threads: int | None = None, clock: Clock | None = None) -> None:
        self.facts = read_facts(folder)
        self.clock = clock or Clock()
        self.threads = min(threads or physical_cores(), os.cpu_count() or 1)
        busy = machine_is_busy(self.threads)
        sessions: dict[str, tp.Any] = {}

        def load(name: str) -> None:
            try:
                sessions[name] = open_session(folder / f"{name}.onnx", self.threads, busy)
            except Exception as error:
                sessions[name] = error

        self.spectral = self.facts["codec"] == "spectral"
        names = ("lm",) if self.spectral else ("lm", "features", "sound")
        helpers = [threading.Thread(target=load, args=(name,)) for name in names[1:]]
        for helper in helpers:
            helper.start()
        load("lm")
        for helper in helpers:
            helper.join()
        for name in names:
            if isinstance(sessions[name], Exception):
                why = str(sessions[name]).strip().splitlines()[0]
                raise PlayerError(f"{folder / name}.onnx cannot be read ({why}); export the model again")
        self.lm = LanguageModel(sessions["lm"], self.facts)
        self.codec = spectral_codec(folder) if self.spectral else (sessions["features"], sessions["sound"])
        self.clock.mark("load")

    def frames(self, seconds: float) -> int:
        """Codec frames in `seconds`. Raises PlayerError where that makes no clip."""
        if not 0 < seconds < math.inf:
            raise PlayerError(f"a duration of {seconds:g} s is nothing; give seconds above 0")
        frames, rate = int(seconds * self.facts["frame_rate"] + 1e-6), self.facts["frame_rate"]
        least = self.facts["least_frames"]
        if frames < least:
            raise PlayerError(f"a duration of {seconds:g} s is too short; give at least {least / rate:g}")
        if seconds > (most := most_seconds(self.facts["sample_rate"], self.facts["channels"])):
            raise PlayerError(f"a duration of {seconds:g} s is more than a WAV holds; give at most {most}")
        return frames

    def play(self, clips: int, frames: int, seed: int, sampling: Sampling) -> tp.Iterator[Array]:
        """Sound of some clips as it is made, float32 [B, C, t] each time; joined, frames * hop_length samples."""
        decoding = SpectralDecoding(self.codec) if self.spectral else Decoding(*self.codec, self.facts)
        waiting: list[Array] = []
        size, done = FIRST_PIECE + self.facts["features_margins"][1] + self.facts["sound_margins"][1], 0
        for codes in draw_codes(self.lm, clips, frames, seed, sampling, self.clock):
            waiting.append(codes)
            done += 1
            if len(waiting) < size and done < frames:
                continue
            with self.clock.spending("decode"):
                wav = decoding.push(np.concatenate(waiting, -1), done == frames)
            waiting, size = [], min(2 * size, LARGEST_PIECE)
            if wav.shape[-1]:
                yield wav


def spectral_codec(folder: Path) -> "SinesDecoder":
    """The decoder of codec.npz. Raises PlayerError where it is no such file."""
    from sines import SinesDecoder

    try:
        with np.load(folder / "codec.npz") as tables:
            mean, basis, books, spread = (tables[name] for name in ("mean", "basis", "books", "spread"))
            return SinesDecoder(mean, books @ basis.T, spread)
    except (OSError, ValueError, KeyError) as error:
        raise PlayerError(f"{folder / 'codec.npz'} cannot be read ({error}); export the model again") from error


class SpectralDecoding:
    """As `Decoding`, of a codec without graphs."""

    def __init__(self, codec: "SinesDecoder") -> None:
        self.codec, self.state = codec, codec.start()

    def push(self, codes: Array, last: bool) -> Array:
        """codes [B, K, n] → the sound float32 [B, 1, t] that is final now."""
        return self.codec.push(self.state, codes, last)[:, None]


def read_facts(folder: Path) -> dict[str, tp.Any]:
    """What the export wrote about the model. Raises PlayerError where it wrote no such folder, or not all is there."""
    path = folder / "player.json"
    if not path.is_file():
        names = ("state_dict.bin", "model.safetensors", "compression_state_dict.bin", "checkpoint.th")
        if any((folder / name).is_file() for name in names):
            given, out = shlex.quote(str(folder)), shlex.quote(f"{folder}-player")
            raise PlayerError(
                f"{folder} is a model for torch; make one for the player: python -m audiocraft export {given} "
                f"--format onnx --out {out}"
            )
        raise PlayerError(f"{folder} holds no model for the player (no player.json); give a folder that export wrote")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        version = facts["format"]
        if version == FORMAT:
            _check_form(facts)
        damaged = [name for name, size in facts["files"].items() if (folder / name).stat().st_size != size]
    except FileNotFoundError as error:
        raise PlayerError(f"{error.filename} is missing; export the model again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlayerError(f"{path} is damaged; export the model again") from error
    if version != FORMAT:
        raise PlayerError(f"{path} has format {version}, this player knows {FORMAT}; use the player.py beside it")
    if damaged:
        raise PlayerError(f"{folder / damaged[0]} is damaged: it has not the size it was written with; export again")
    return facts


def _check_form(facts: dict[str, tp.Any]) -> None:
    """Raises KeyError, TypeError or ValueError where something is missing or has another form."""
    counts = [facts[name] for name in _COUNTS]
    lists = [facts["delays"], *(facts[name] for name in _PAIRS)]
    sizes = [facts["n_q"], *[2] * len(_PAIRS)]
    if not (
        all(isinstance(facts[name], str) for name in _TEXTS)
        and facts["codec"] in CODECS
        and all(isinstance(count, int) and count > 0 for count in counts)
        and 0 < facts["frame_rate"] < math.inf
        and all(isinstance(each, list) and len(each) == size for each, size in zip(lists, sizes))
        and all(isinstance(number, int) and number >= 0 for each in lists for number in each)
    ):
        raise ValueError("a fact has not its form")


def open_session(path: Path, threads: int, busy: bool) -> "ort.InferenceSession":
    """A graph, ready to run on the CPU; beside others that compute, threads that wait sleep instead of spinning."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions too
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_mem_pattern = False  # sizes vary from run to run
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if busy else "1")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def physical_cores() -> int:
    """Cores this process may use, hyperthreads counted once."""
    try:
        usable = os.sched_getaffinity(0)
    except AttributeError:  # not on Linux
        return max(1, (os.cpu_count() or 2) // 2)
    siblings = set()
    for cpu in usable:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(path.read_text() if path.is_file() else cpu)
    return len(siblings)


def machine_is_busy(threads: int) -> bool:
    """Whether so many threads would share cores with others that compute now (the load average would count us too)."""
    running = []
    try:
        for _ in range(3):
            running.append(int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]))
            time.sleep(0.001)
    except (OSError, ValueError, IndexError):  # not on Linux
        return False
    return sorted(running)[1] - 1 + threads > (os.cpu_count() or 1)
