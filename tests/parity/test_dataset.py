"""Manifests and drawn segments against the reference's."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file

from audiocraft.data.audio_dataset import AudioDataset, load_audio_meta, main


@pytest.fixture(scope="module")
def facts(golden):
    return json.loads((golden / "audio/dataset.json").read_text())


@pytest.fixture(autouse=True)
def in_golden_folder(golden, monkeypatch):
    monkeypatch.chdir(golden / "audio")


def dataset(facts, run, **kwargs):
    args = facts["args"] | {"return_info": True}
    args |= {key: run[key] for key in ("sample_on_duration", "sample_on_weight", "shuffle")}
    args["permutation_on_files"] = run.get("permutation_on_files", False)
    made = AudioDataset(load_audio_meta(run["manifest"], resolve=False), **args | kwargs)
    if run["epoch"] is not None:
        made.start_epoch(run["epoch"])
    return made


def check_item(item, expected):
    wav, info = item
    assert info.meta.path == expected["path"]
    assert info.seek_time == pytest.approx(expected["seek_time"], abs=1e-9)
    assert (info.n_frames, info.total_frames) == (expected["n_frames"], expected["total_frames"])
    assert not wav[:, info.n_frames :].any(), "what is not counted must be silence"
    if "energy" in expected:
        assert (info.sample_rate, info.channels) == (expected["sample_rate"], expected["channels"])
        assert wav.shape == (expected["channels"], expected["wav_frames"])
        assert wav.double().pow(2).sum().item() == pytest.approx(expected["energy"], rel=1e-4)


@pytest.mark.parametrize("arguments, name", [([], "manifest.jsonl"), (["--complete"], "manifest_complete.jsonl")])
def test_manifest(tmp_path, arguments, name):
    assert main(["wavs", str(tmp_path / "data.jsonl"), *arguments]) == 0
    with open(name) as expected:
        assert (tmp_path / "data.jsonl").read_text() == expected.read()


def test_draws(facts):
    """Every run that does not depend on the random numbers of one build of torch."""
    runs = [run for run in facts["runs"] if run["file_draw"] != "torch_2.1_mkl"]
    assert {run["file_draw"] for run in runs} == {"portable", "randint", "permutation"}
    for run in runs:
        made = dataset(facts, run)
        if "probabilities" in run:
            torch.testing.assert_close(made.sampling_probabilities, torch.tensor(run["probabilities"]))
        for expected in run["items"]:
            check_item(made[expected["index"]], expected)
            meta, seek_time = made.sample_segment(expected["index"])
            assert (meta.path, seek_time) == (expected["path"], pytest.approx(expected["seek_time"], abs=1e-9))


def test_first_segments(facts):
    made = dataset(facts, facts["runs"][0])
    for name, expected in load_file("segments.safetensors").items():
        torch.testing.assert_close(made[int(name.removeprefix("segment_"))][0], expected, rtol=0, atol=4e-6)


def test_whole_files(facts):
    made = dataset(facts, facts["runs"][0], segment_duration=None)
    items = [made[index] for index in range(len(made))]
    assert len(items) == len(facts["full_files"])
    for (wav, info), expected in zip(items, facts["full_files"], strict=True):
        assert info.meta.path == expected["path"]
        assert info.n_frames == info.total_frames == wav.shape[-1] == expected["n_frames"]
        assert wav.double().pow(2).sum().item() == pytest.approx(expected["energy"], rel=1e-4)
    batch, infos = made.collater(items)
    expected = facts["full_files_collated"]
    assert list(batch.shape) == expected["shape"]
    assert [info.total_frames for info in infos] == expected["total_frames"]
    assert [info.n_frames for info in infos] == expected["n_frames"]


def test_relative_paths_are_found_from_elsewhere(golden, monkeypatch, tmp_path):
    """A manifest made in a folder is read from any other: its paths are then looked for beside it."""
    monkeypatch.chdir(tmp_path)
    meta = load_audio_meta(golden / "audio/manifest.jsonl")
    assert os.path.relpath(meta[0].path, golden / "audio") == "wavs/a_44k_stereo.wav"
    assert AudioDataset(meta, segment_duration=0.2, sample_rate=16000, channels=1)[0].shape == (1, 3200)
