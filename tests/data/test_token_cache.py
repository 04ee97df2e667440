"""The token cache: codes equal those of the whole file, whatever happens to the folder in between."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiocraft.data import token_cache
from audiocraft.data.audio import audio_read
from audiocraft.data.audio_utils import convert_audio
from audiocraft.data.token_cache import TokenCache, codec_key, read_blocks
from audiocraft.errors import UserError
from audiocraft.models.builders import get_debug_compression_model
from audiocraft.modules.seanet import SEANetEncoder


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    return get_debug_compression_model(sample_rate=16000)


def write_noise(path: Path, seconds: float, rate: int, channels: int, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    soundfile.write(path, rng.uniform(-0.5, 0.5, (int(seconds * rate), channels)), rate)
    return path


def set_age(path: Path, seconds: float) -> None:
    """Make a file look as if it was written that long ago."""
    stamp = path.stat().st_mtime - seconds
    os.utime(path, (stamp, stamp))


def whole_file_codes(codec, path: Path) -> torch.Tensor:
    wav, rate = audio_read(path)
    with torch.no_grad():
        return codec.encode(convert_audio(wav, rate, codec.sample_rate, codec.channels)[None])[0][0]


@pytest.mark.parametrize("rate, channels", [(16000, 1), (44100, 2), (48000, 1)])
def test_codes_equal_whole_file(tmp_path, codec, rate, channels):
    path = write_noise(tmp_path / "a.wav", 2.37, rate, channels)
    entry = TokenCache(tmp_path / "cache", codec).prepare([path], progress=False).tokens[str(path)]
    expected = whole_file_codes(codec, path)
    assert torch.equal(entry.read(), expected)
    assert torch.equal(entry.read(3, 9), expected[:, 3:9])
    assert entry.read().dtype == torch.int64
    assert entry.num_samples == int(2.37 * rate) * 16000 // rate


@pytest.mark.parametrize("seconds", [7.0, 6.4, 9.0, 6.9999])
def test_blocks_equal_whole_file(tmp_path, monkeypatch, seconds):
    """Long files are read in blocks; here a block is three seconds."""
    path = write_noise(tmp_path / "a.wav", seconds, 44100, 2)
    whole = next(read_blocks(path, 16000, 1))
    monkeypatch.setattr(token_cache, "BLOCK_SECONDS", 3)
    blocks = list(read_blocks(path, 16000, 1))
    assert len(blocks) in (2, 3)
    assert torch.equal(torch.cat(blocks, dim=-1), whole)


def test_long_file_equals_whole_file(tmp_path, monkeypatch, codec):
    path = write_noise(tmp_path / "a.wav", 8.3, 44100, 2)
    expected = whole_file_codes(codec, path)
    monkeypatch.setattr(token_cache, "BLOCK_SECONDS", 3)
    entry = TokenCache(tmp_path / "cache", codec).prepare([path], progress=False).tokens[str(path)]
    assert torch.equal(entry.read(), expected)


def test_second_start_reads_nothing(tmp_path, monkeypatch, codec):
    path = write_noise(tmp_path / "a.wav", 1, 16000, 1)
    set_age(path, 60)
    TokenCache(tmp_path / "cache", codec).prepare([path], progress=False)
    monkeypatch.setattr(token_cache.hashlib, "file_digest", lambda *_: pytest.fail("the file was read again"))
    report = TokenCache(tmp_path / "cache", codec).prepare([path], progress=False)
    assert not report.rates and str(path) in report.tokens


def test_content_is_the_key(tmp_path, codec):
    """A renamed copy costs nothing, a changed file is coded anew even if size and date stay."""
    path = write_noise(tmp_path / "a.wav", 1, 16000, 1)
    copy = tmp_path / "b.wav"
    copy.write_bytes(path.read_bytes())
    cache = TokenCache(tmp_path / "cache", codec)
    assert list(cache.prepare([path], progress=False).rates) == [str(path)]
    report = cache.prepare([path, copy], progress=False)
    assert not report.rates and report.tokens[str(path)] == report.tokens[str(copy)]
    before = path.stat()
    write_noise(path, 1, 16000, 1, seed=1)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    report = cache.prepare([path], progress=False)
    assert list(report.rates) == [str(path)]
    assert torch.equal(report.tokens[str(path)].read(), whole_file_codes(codec, path))


def test_key_follows_weights_and_structure(codec):
    key = codec_key(codec)
    torch.manual_seed(0)
    same = get_debug_compression_model(sample_rate=16000)
    assert codec_key(same) == key
    same.set_num_codebooks(2)
    assert codec_key(same) != key
    same.set_num_codebooks(4)
    with torch.no_grad():
        next(same.parameters())[0].add_(1e-3)
    assert codec_key(same) != key


def test_key_follows_padding_mode():
    """Two codecs with the same weights that pad differently give different codes."""
    keys = set()
    for pad_mode in ("reflect", "constant"):
        torch.manual_seed(0)
        codec = get_debug_compression_model(sample_rate=16000)
        sizes = {"dimension": 32, "n_filters": 4, "n_residual_layers": 1, "ratios": [10, 8, 8]}
        encoder = SEANetEncoder(channels=1, pad_mode=pad_mode, **sizes)
        encoder.load_state_dict(codec.encoder.state_dict())
        codec.encoder = encoder
        keys.add(codec_key(codec))
    assert len(keys) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "text"])
def test_damaged_entry_is_coded_again(tmp_path, codec, damage):
    path = write_noise(tmp_path / "a.wav", 1, 16000, 1)
    cache = TokenCache(tmp_path / "cache", codec)
    entry = cache.prepare([path], progress=False).tokens[str(path)]
    data = bytearray(entry.path.read_bytes())
    data[-60] ^= 1
    entry.path.write_bytes({"cut": data[:-30], "flipped": data, "emptied": b"", "text": b"no codes"}[damage])
    report = cache.prepare([path], progress=False)
    assert list(report.rates) == [str(path)]
    assert torch.equal(report.tokens[str(path)].read(), whole_file_codes(codec, path))


def test_damaged_index_is_forgotten(tmp_path, codec):
    path = write_noise(tmp_path / "a.wav", 1, 16000, 1)
    set_age(path, 60)
    cache = TokenCache(tmp_path / "cache", codec)
    cache.prepare([path], progress=False)
    (tmp_path / "cache/files.json").write_text("{broken")
    assert str(path) in cache.prepare([path], progress=False).tokens


def test_bad_files_are_left_out(tmp_path, codec, caplog):
    good = write_noise(tmp_path / "good.wav", 1, 16000, 1)
    (tmp_path / "text.wav").write_text("not audio")
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "nothing.wav", np.zeros((0, 1)), 16000)
    soundfile.write(tmp_path / "nan.wav", np.full((16000, 1), np.nan), 16000, subtype="FLOAT")
    names = [str(tmp_path / name) for name in ("text.wav", "empty.wav", "nothing.wav", "nan.wav", "gone.wav")]
    report = TokenCache(tmp_path / "cache", codec).prepare([*names, good], progress=False)
    assert list(report.tokens) == [str(good)]
    assert {name for name, _ in report.skipped} == set(names)
    assert len(caplog.records) == len(names)


def test_one_sample_file(tmp_path, codec):
    path = write_noise(tmp_path / "a.wav", 1 / 16000, 16000, 1)
    entry = TokenCache(tmp_path / "cache", codec).prepare([path], progress=False).tokens[str(path)]
    assert (entry.num_samples, entry.read().shape[-1]) == (1, 1)


def test_stopped_and_run_again(tmp_path, monkeypatch, codec):
    """What was done before an interruption is kept, and nothing half-done is taken for whole."""
    paths = [write_noise(tmp_path / f"{i}.wav", 1, 16000, 1, seed=i) for i in range(3)]
    encode, calls = codec.encode, []

    def stop_at_second(wav):
        calls.append(wav)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(wav)

    monkeypatch.setattr(codec, "encode", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        TokenCache(tmp_path / "cache", codec).prepare(paths, progress=False)
    report = TokenCache(tmp_path / "cache", codec).prepare(paths, progress=False)
    assert len(report.rates) == 2 and len(report.tokens) == 3


@pytest.mark.parametrize("gone", [False, True])
def test_file_changed_while_it_is_coded(tmp_path, monkeypatch, codec, gone):
    """Codes must never be kept under the hash of other bytes."""
    path = write_noise(tmp_path / "a.wav", 1.0, 16000, 1)
    encode = codec.encode

    def change_then_encode(wav):
        path.unlink() if gone else write_noise(path, 1.0, 16000, 1, seed=1)
        return encode(wav)

    monkeypatch.setattr(codec, "encode", change_then_encode)
    report = TokenCache(tmp_path / "cache", codec).prepare([path], progress=False)
    assert not report.tokens and "changed" in report.skipped[0][1]
    monkeypatch.undo()
    write_noise(path, 1.0, 16000, 1, seed=1)
    entry = TokenCache(tmp_path / "cache", codec).prepare([path], progress=False).tokens[str(path)]
    assert torch.equal(entry.read(), whole_file_codes(codec, path))


def test_two_runs_at_once(tmp_path, codec):
    paths = [write_noise(tmp_path / f"{i}.wav", 1, 16000, 1, seed=i) for i in range(6)]
    reports = []

    def work():
        reports.append(TokenCache(tmp_path / "cache", codec).prepare(paths, progress=False))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 2
    for report in reports:
        for path in paths:
            assert torch.equal(report.tokens[str(path)].read(), whole_file_codes(codec, path))
    assert not [path for path in (tmp_path / "cache").rglob(".*") if path.is_file()]


def test_vanished_entry(tmp_path, codec):
    path = write_noise(tmp_path / "a.wav", 1, 16000, 1)
    entry = TokenCache(tmp_path / "cache", codec).prepare([path], progress=False).tokens[str(path)]
    entry.path.unlink()
    with pytest.raises(UserError, match="run the command again"):
        entry.read()
