"""Codes of whole audio files, kept on disk and shared by all runs.

Layout of the cache folder::

    files.json                    path -> size, mtime, content hash: unchanged files are not read again at every start
    CODEC/codec.json              what the codec is, for people
    CODEC/ab/abcdef….npy          codes [F, K] of one file, named by the hash of the file's bytes

CODEC is a hash of the codec's weights and structure. An entry is a plain `.npy` file (int16, or int32 for large
codebooks) followed by the number of samples coded and a checksum; it is renamed into place, so runs that start, stop or
die at any moment see it whole or not at all, and an entry that got damaged is coded again.
"""

import hashlib
import io
import logging
import struct
import time
import typing as tp
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..errors import UserError
from ..utils.files import atomic_path, read_json, write_json
from .audio import UnreadableAudio, audio_blocks, audio_info
from .audio_utils import convert_audio

logger = logging.getLogger(__name__)

# Files longer than this (seconds) are read, resampled and coded block by block, so that an hour needs no more memory.
BLOCK_SECONDS = 120
# Audio on either side of a block that the resampler may look at; its windowed sinc reaches a few milliseconds.
CONTEXT_SECONDS = 1
# A file written less than this ago may be written again without a visible change of its mtime.
FRESH_SECONDS = 2.0
DIGEST_BYTES = 16
# Raise it when reading, resampling or coding begins to give other codes: entries made before are left behind.
FORMAT = 2
TRAILER = struct.Struct(f"<q{DIGEST_BYTES}s")


class Codec(tp.Protocol):
    """What is asked of a codec, a module in evaluation mode: `audiocraft.models.CompressionModel` offers it."""

    training: bool
    sample_rate: int
    channels: int
    frame_rate: int

    @property
    def cardinality(self) -> int: ...
    @property
    def num_codebooks(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]: ...
    def encode_blocks(self, wavs: tp.Iterable[torch.Tensor]) -> tp.Iterator[torch.Tensor]: ...
    def named_modules(self) -> tp.Iterator[tuple[str, torch.nn.Module]]: ...
    def state_dict(self) -> dict[str, torch.Tensor]: ...


@dataclass(frozen=True)
class CachedTokens:
    """Codes of one file: where they lie, and how many samples (at the codec's rate) they stand for."""

    path: Path
    num_samples: int

    def read(self, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Codes int64 [K, F] of frames `start` to `stop`.

        Raises:
            UserError: the entry vanished while a run was using it.
        """
        try:
            codes = np.load(self.path, mmap_mode="r")[start:stop]
        except (OSError, ValueError) as error:
            raise UserError(
                f"the token cache entry {self.path} cannot be read any more ({error}); run the command again to code "
                "the file once more"
            ) from error
        return torch.from_numpy(codes.T.astype(np.int64, order="C"))


@dataclass
class CacheReport:
    """What `TokenCache.prepare` found: entries by path as given, the files left out with the reason, and the sample
    rates (Hz) of those that were coded now."""

    tokens: dict[str, CachedTokens] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    rates: dict[str, int] = field(default_factory=dict)


def codec_key(model: Codec) -> str:
    """Hash of everything that decides a codec's codes: class names, plain settings of every module, and weights."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    digest.update(f"{FORMAT}:{model.sample_rate}:{model.channels}:{model.num_codebooks}\n".encode())
    for name, module in sorted(model.named_modules()):
        # Public plain values are a layer's settings: strides, padding modes and the like. `training` is a mood.
        settings = {
            key: value
            for key, value in vars(module).items()
            if not key.startswith("_") and key != "training" and _is_plain(value)
        }
        digest.update(f"{name}:{type(module).__name__}:{sorted(settings.items())!r}\n".encode())
    for name, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name}:{array.dtype}:{tuple(array.shape)}\n".encode())
        digest.update(array.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def content_hash(path: str | Path) -> str:
    """Hash of the bytes of a file. Raises OSError where it cannot be read."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()


class FileIndex:
    """Content hashes of files, remembered by path, size and modification time.

    Several runs may share the file: the last writer wins after taking in what it finds, and a lost line only costs
    reading that file once more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known = self._load()
        self._new: dict[str, list] = {}

    def _load(self) -> dict[str, list]:
        try:
            known = read_json(self.path)
        except (OSError, ValueError):
            return {}  # absent or damaged: nothing is lost but time
        return known if isinstance(known, dict) else {}

    def content(self, path: str | Path) -> str:
        """Hash of the bytes of `path`. Raises OSError where it cannot be read."""
        path = Path(path).absolute()
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        known = self._known.get(str(path))
        if isinstance(known, list) and known[:2] == stamp and len(known) == 3:
            return known[2]
        digest = content_hash(path)
        if time.time() - status.st_mtime > FRESH_SECONDS:
            self._new[str(path)] = self._known[str(path)] = [*stamp, digest]
        return digest

    def save(self) -> None:
        """Write what was learned since the last time."""
        if self._new:
            merged = {**self._load(), **self._new}
            write_json(self.path, merged, indent=0)
            self._new = {}


def read_blocks(path: str | Path, sample_rate: int, channels: int) -> tp.Iterator[torch.Tensor]:
    """The whole of a file as blocks `[C, T]`; joined they equal `convert_audio` of all of it, to the bit.

    Blocks start at whole seconds, where the grids of any two integer sample rates meet, and are resampled with a second
    of context on either side, which is then cut off.

    Raises:
        UnreadableAudio: as `audio_read`, or there is not one sample.
    """
    blocks, rate = audio_blocks(path, BLOCK_SECONDS)
    length = 0
    before = torch.zeros(0)
    block = next(blocks, None)
    while block is not None:
        after = next(blocks, None)
        parts = [part for part in (before, block) if part.numel()]
        parts += [] if after is None else [after[:, : CONTEXT_SECONDS * rate]]
        begin = CONTEXT_SECONDS * sample_rate if before.numel() else 0
        stop = None if after is None else begin + BLOCK_SECONDS * sample_rate
        converted = convert_audio(torch.cat(parts, dim=1), rate, sample_rate, channels)[:, begin:stop]
        length += converted.shape[-1]
        if converted.shape[-1]:
            yield converted
        before, block = block[:, -CONTEXT_SECONDS * rate :], after
    if not length:
        raise UnreadableAudio.of(path, "it holds no audio")


class TokenCache:
    """Codes of whole files under `root`, made by `model` where they are missing.

    Args:
        root: cache folder, shared by all codecs and runs.
        model: a codec in evaluation mode; files too long to hold go through its `encode_blocks`.
    """

    def __init__(self, root: str | Path, model: Codec) -> None:
        assert not model.training, "a codec in training mode gives other codes"
        self.root = Path(root)
        self.model = model
        self.key = codec_key(model)
        self.folder = self.root / self.key
        self._device = model.device

    def entry_path(self, content: str) -> Path:
        """Where the codes of a file with this content hash lie."""
        return self.folder / content[:2] / f"{content}.npy"

    def prepare(self, paths: tp.Iterable[str | Path], progress: bool = True) -> CacheReport:
        """Make sure that every readable file of `paths` has its codes, and say where.

        Safe to interrupt at any point and to run in several processes at once: what is done is kept.
        """
        report = CacheReport()
        missing = self._find(dict.fromkeys(str(path) for path in paths), report, progress)
        if missing:
            self._describe()
            self._fill(missing, report, progress)
        for name, reason in report.skipped:
            logger.warning("left out, cannot be coded: %s (%s)", name, reason)
        return report

    def _find(self, names: tp.Collection[str], report: CacheReport, progress: bool) -> dict[str, list[str]]:
        """Take in what is there; returns content hash -> files for what is not."""
        index = FileIndex(self.root / "files.json")
        missing: dict[str, list[str]] = {}
        try:
            # Nothing to see when it takes less than two seconds.
            for name in tqdm(names, desc=f"Checking {len(names)} files", disable=not progress, delay=2.0):
                try:
                    content = index.content(name)
                except OSError as error:
                    report.skipped.append((name, error.strerror or str(error)))
                    continue
                entry = self._open(content)
                if entry is None:
                    missing.setdefault(content, []).append(name)
                else:
                    report.tokens[name] = entry
        finally:
            index.save()
        return missing

    def _fill(self, missing: dict[str, list[str]], report: CacheReport, progress: bool) -> None:
        """Code what is missing."""
        bar = tqdm(missing.items(), desc=f"Encoding {len(missing)} files", unit="file", disable=not progress)
        for content, same in bar:
            # Another run may have made it since.
            entry = self._open(content)
            if entry is None:
                try:
                    entry = self._encode(same[0], content)
                    rate = audio_info(same[0]).sample_rate
                except UnreadableAudio as error:  # one bad file must not end a run
                    report.skipped += [(name, error.reason) for name in same]
                    continue
                report.rates.update(dict.fromkeys(same, rate))
            report.tokens.update(dict.fromkeys(same, entry))

    def _open(self, content: str) -> CachedTokens | None:
        """The entry of `content`; None where there is none or it is damaged."""
        path = self.entry_path(content)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            stream = io.BytesIO(data)
            codes = np.load(stream)
            num_samples, digest = TRAILER.unpack(data[stream.tell() :])
        except (ValueError, EOFError, struct.error):
            codes, num_samples, digest = None, 0, b""
        if codes is None or codes.ndim != 2 or digest != _checksum(codes, num_samples):
            logger.warning("the token cache entry %s is damaged; its file is coded again", path)
            return None
        return CachedTokens(path, num_samples)

    @torch.no_grad()
    def _encode(self, name: str, content: str) -> CachedTokens:
        num_samples = 0

        def counted() -> tp.Iterator[torch.Tensor]:
            nonlocal num_samples
            for block in read_blocks(name, self.model.sample_rate, self.model.channels):
                num_samples += block.shape[-1]
                yield block[None].to(self._device)

        codes = self._codes(counted())
        dtype = torch.int16 if self.model.cardinality <= 2**15 else torch.int32
        array = codes[0].T.to("cpu", dtype).contiguous().numpy()
        # Minutes can pass between hashing all files and coding the last one.
        if not Path(name).is_file() or content_hash(name) != content:
            raise UnreadableAudio.of(name, "it was changed while it was being coded")
        path = self.entry_path(content)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, array)
            file.write(TRAILER.pack(num_samples, _checksum(array, num_samples)))
        return CachedTokens(path, num_samples)

    def _codes(self, blocks: tp.Iterator[torch.Tensor]) -> torch.Tensor:
        """Codes [1, K, F] of the joined blocks [1, C, T]."""
        first = next(blocks)
        second = next(blocks, None)
        if second is not None:
            return torch.cat(list(self.model.encode_blocks(chain((first, second), blocks))), dim=-1)
        codes, scale = self.model.encode(first)
        assert scale is None, "codes that need a scale beside them cannot be cached"
        return codes

    def _describe(self) -> None:
        path = self.folder / "codec.json"
        if not path.exists():
            model = self.model
            facts = {
                "sample_rate": model.sample_rate,
                "channels": model.channels,
                "frame_rate": float(model.frame_rate),
                "codebooks": model.num_codebooks,
                "cardinality": model.cardinality,
            }
            write_json(path, facts)


def _checksum(codes: np.ndarray, num_samples: int) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    digest.update(f"{num_samples}:{codes.dtype}:{codes.shape}".encode())
    digest.update(np.ascontiguousarray(codes).data)
    return digest.digest()
