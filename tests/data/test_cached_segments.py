"""Segments of cached codes: the same draws as waves, cut from the codes of whole files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from audiocraft.data.manifest import AudioMeta
from audiocraft.data.music_dataset import MusicDataset
from audiocraft.data.token_cache import TokenCache
from audiocraft.models.builders import get_debug_compression_model

RATE, HOP = 16000, 640
DURATIONS = {"long": 5.0, "middle": 1.03, "short": 0.31, "tiny": 0.01}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Four files and their cached codes."""
    torch.manual_seed(0)
    codec = get_debug_compression_model(sample_rate=RATE)
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    meta = []
    for name, seconds in DURATIONS.items():
        path = folder / f"{name}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, int(seconds * RATE)), RATE)
        path.with_suffix(".json").write_text(json.dumps({"description": f"a {name} noise"}))
        meta.append(AudioMeta(str(path), seconds, RATE))
    tokens = TokenCache(folder / "cache", codec).prepare([m.path for m in meta], progress=False).tokens
    return meta, tokens


def make(meta, tokens, **options):
    options = {"segment_duration": 1.0, "num_samples": 40, "sample_rate": RATE, "channels": 1} | options
    waves = MusicDataset(meta, return_info=True, sample_on_duration=False, sample_on_weight=False, **options)
    dataset = waves.reading(tokens, HOP)
    for one in (waves, dataset):
        one.start_epoch(0)
    return waves, dataset


def test_same_draws_cut_at_frames(material):
    meta, tokens = material
    waves, dataset = make(meta[:2], tokens)
    assert dataset.segment_length == 25
    for index in range(20):
        _, expected = waves[index]
        codes, info = dataset[index]
        start = round(info.seek_time * RATE / HOP)
        length = info.n_frames // HOP
        whole = tokens[info.meta.path].read()[:, : tokens[info.meta.path].num_samples // HOP]
        assert info.meta == expected.meta
        assert 0 <= expected.seek_time - info.seek_time < HOP / RATE + 1e-6
        assert torch.equal(codes[:, :length], whole[:, start : start + 25]) and not codes[:, length:].any()
        assert codes.shape == (4, 25) and info.n_frames == length * HOP and info.total_frames == 25 * HOP
        assert info.description == expected.description
        assert abs(info.n_frames - expected.n_frames) < 2 * HOP


def test_pad_leaves_short(material):
    meta, tokens = material
    _, dataset = make(meta[2:3], tokens, short="pad")
    _, info = dataset[0]
    assert info.n_frames == int(0.31 * RATE) // HOP * HOP


def test_loop_goes_round(material):
    meta, tokens = material
    _, dataset = make(meta[2:3], tokens, short="loop")
    whole = tokens[meta[2].path].read()[:, :7]
    for index in range(4):
        codes, info = dataset[index]
        start = round(info.seek_time * RATE / HOP)
        expected = torch.cat([whole[:, start:], *[whole] * 4], dim=-1)[:, :25]
        assert torch.equal(codes, expected)
        assert info.n_frames == info.total_frames


def test_join_goes_on_with_the_draws(material):
    meta, tokens = material
    _, dataset = make(meta[1:3], tokens, short="join")
    for index in range(8):
        codes, _ = dataset[index]
        expected, draws = torch.zeros(4, 0, dtype=torch.int64), dataset.draws(index)
        while expected.shape[-1] < 25:
            expected = torch.cat([expected, dataset.read_piece(*next(draws))], dim=-1)
        assert torch.equal(codes, expected[:, :25])


def test_file_below_a_frame_or_without_codes_is_passed_over(material, caplog):
    meta, tokens = material
    missing = {path: entry for path, entry in tokens.items() if path != meta[1].path}
    _, dataset = make(meta[1:], missing, short="loop")
    assert {dataset[index][1].meta.path for index in range(30)} == {meta[2].path}
    assert "tiny.wav cannot be read as audio: it is shorter than one frame" in caplog.text
    assert "middle.wav" not in caplog.text  # the cache has said so


def test_a_manifest_with_wrong_durations_is_mended(material, caplog):
    meta, tokens = material
    wrong = [replace(meta[0], duration=50.0), replace(meta[2], duration=0.1)]
    waves, dataset = make(wrong, tokens)
    assert "lasts 5.00 s, not 50.00 s as its manifest says (and 1 more); the file is right" in caplog.text
    assert [item.duration for item in dataset.meta] == [5.0, 0.31] and waves.meta == wrong
    # Without it nine of ten draws would point behind the end, and give one frame and padding.
    long = [info for _, info in (dataset[index] for index in range(20)) if info.meta.path == meta[0].path]
    assert long and all(info.n_frames >= RATE // 2 - HOP for info in long)


def test_whole_files_and_batches(material):
    meta, tokens = material
    _, dataset = make(meta[:3], tokens, segment_duration=None)
    samples = [dataset[index] for index in range(3)]
    codes, infos = dataset.collater(samples)
    assert codes.shape == (3, 4, 125) and codes.dtype == torch.int64
    assert [info.n_frames // HOP for info in infos] == [125, 25, 7]
    assert {info.total_frames for info in infos} == {125 * HOP}
