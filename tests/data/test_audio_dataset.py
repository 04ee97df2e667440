"""What the golden runs do not show: short files, broken files, loaders."""

import logging
import pickle

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from audiocraft.data.audio_dataset import AudioDataset, AudioMeta
from audiocraft.errors import UserError, of_worker

RATE = 16000


def make(tmp_path, files, **kwargs):
    """Files as name -> samples; a dataset over them."""
    meta = []
    for name, samples in files.items():
        soundfile.write(tmp_path / name, np.asarray(samples), RATE, subtype="FLOAT")
        meta.append(AudioMeta(str(tmp_path / name), len(samples) / RATE, RATE))
    args = {"segment_duration": 0.5, "sample_rate": RATE, "channels": 1, "return_info": True, "num_samples": 20}
    return AudioDataset(meta, **args | {"shuffle": False} | kwargs)


def level(value, seconds):
    return np.full(int(seconds * RATE), value, dtype=np.float32)


def ramp(seconds):
    return np.linspace(0.1, 0.9, int(seconds * RATE), dtype=np.float32)


def test_pad_is_not_counted(tmp_path):
    made = make(tmp_path, {"a.wav": level(0.5, 0.3)})
    wav, info = made[0]
    assert wav.shape == (1, 8000) and (info.n_frames, info.total_frames) == (4800 - int(info.seek_time * RATE), 8000)
    assert (wav[0, : info.n_frames] == 0.5).all() and not wav[0, info.n_frames :].any()


def test_without_pad(tmp_path):
    made = make(tmp_path, {"a.wav": level(0.5, 0.2), "b.wav": level(0.5, 2.0)}, pad=False, sample_on_duration=False)
    items = [made[i] for i in range(20)]
    assert {wav.shape[1] == info.n_frames for wav, info in items} == {True}
    assert len({info.n_frames for _, info in items}) > 1
    batch, infos = made.collater(items)
    assert batch.shape == (20, 1, 8000)
    assert [info.n_frames for info in infos] == [info.n_frames for _, info in items]


def test_loop_goes_round(tmp_path):
    made = make(tmp_path, {"a.wav": ramp(0.12)}, short="loop")
    once = torch.from_numpy(ramp(0.12))
    starts = set()
    for index in range(5):
        wav, info = made[index]
        assert info.n_frames == info.total_frames == wav.shape[1] == 8000
        start = int(info.seek_time * RATE)
        torch.testing.assert_close(wav[0], once.repeat(6)[start : start + 8000])
        starts.add(start)
    assert len(starts) == 5, "a loop is entered anywhere"


def test_join_goes_on_with_other_files(tmp_path):
    levels = {f"{i}.wav": level(i / 10, 0.11 + 0.02 * i) for i in range(1, 6)}
    made = make(tmp_path, levels, short="join", sample_on_duration=False, sample_on_weight=False)
    lengths = {round(float(samples[0]), 1): len(samples) for samples in levels.values()}
    for index in range(10):
        wav, info = made[index]
        assert info.n_frames == info.total_frames == 8000 and info.seek_time == 0
        values, counts = torch.unique_consecutive(wav[0], return_counts=True)
        assert len(values) > 1 or counts[0] % lengths[round(values[0].item(), 1)]
        # Whole files from their start, one after the other; the same may come twice; only the last one is cut.
        for value, count in list(zip(values.tolist(), counts.tolist(), strict=True))[:-1]:
            assert count % lengths[round(value, 1)] == 0
        torch.testing.assert_close(wav, made[index][0], rtol=0, atol=0)
    assert not torch.equal(made[0][0], made[1][0])


@pytest.mark.parametrize("short", ["loop", "join"])
def test_long_files_are_not_run_out_of(tmp_path, short):
    """With these a segment fits wherever the file is long enough, whatever min_segment_ratio says."""
    made = make(tmp_path, {"a.wav": level(0.5, 0.8)}, short=short, min_segment_ratio=0.1)
    assert max(made.sample_segment(index)[1] for index in range(20)) <= 0.3
    assert all((made[index][0] == 0.5).all() for index in range(20))


def test_broken_files_are_told_once_and_replaced(tmp_path, caplog):
    files = {
        "good.wav": level(0.5, 1.0),
        "nan.wav": level(np.nan, 1.0),
        "text.wav": level(0, 1.0),
        "gone.wav": level(0, 1),
    }
    made = make(tmp_path, files, sample_on_duration=False, sample_on_weight=False, max_read_retry=2)
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "gone.wav").unlink()
    with caplog.at_level(logging.WARNING):
        items = [made[index] for index in range(20)]
    assert all(info.meta.path.endswith("good.wav") and wav.any() for wav, info in items)
    assert sorted(message.split(" ")[0].rpartition("/")[2] for message in caplog.messages) == [
        "gone.wav",
        "nan.wav",
        "text.wav",
    ]
    assert not any("\n" in message for message in caplog.messages)
    # The same segments again, in any order: what replaces a file depends on the item alone.
    assert torch.equal(made[7][0], items[7][0])


def test_shorter_than_its_manifest_says(tmp_path, caplog):
    made = make(tmp_path, {"a.wav": level(0.5, 0.2), "b.wav": level(0.25, 2.0)})
    made.meta[0].duration = 60.0
    made = AudioDataset(made.meta, 0.5, False, 20, RATE, 1)
    with caplog.at_level(logging.WARNING):
        assert all((made[index] != 0).any() for index in range(20))
    assert len(caplog.messages) == 1 and "its manifest says 60.00 s" in caplog.messages[0]


def test_wrong_rate_in_the_manifest_keeps_the_pitch(tmp_path, caplog):
    tone = 0.5 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)
    made = make(tmp_path, {"a.wav": tone})
    made.meta[0].sample_rate = 44100
    with caplog.at_level(logging.WARNING):
        items = [made[index][0][0] for index in range(3)]
    for wav in items:
        assert torch.fft.rfft(wav[:4000]).abs().argmax().item() * RATE / 4000 == 500
    assert len(caplog.messages) == 1 and "is at 16000 Hz, not at 44100 Hz" in caplog.messages[0]


def test_nothing_readable(tmp_path):
    made = make(tmp_path, {"a.wav": level(np.nan, 1.0), "b.wav": level(np.inf, 1.0)})
    with pytest.raises(UserError, match="none of the 2 files can be read"):
        made[0]


def test_wrong_arguments(tmp_path):
    files = {"a.wav": level(0.5, 1.0)}
    for kwargs, message in [
        ({"short": "stretch"}, "dataset.short=stretch is unknown; choose one of pad, loop, join"),
        ({"segment_duration": 0.0}, "segment of 0.0 s"),
        ({"min_segment_ratio": 2.0}, "number from 0 to 1"),
        ({"min_audio_duration": 5.0}, "none of the 1 files lasts 5.0 to inf s"),
        ({"max_audio_duration": 0.5}, "none of the 1 files lasts 0.0 to 0.5 s"),
        ({"permutation_on_files": True}, "sample_on_duration=false"),
    ]:
        with pytest.raises(UserError, match=message):
            make(tmp_path, files, **kwargs)
    with pytest.raises(UserError, match="there are no audio files"):
        AudioDataset([])
    with pytest.raises(UserError, match="every file has weight or duration 0"):
        AudioDataset([AudioMeta("a.wav", 1.0, RATE, weight=0.0)])


def test_from_folder_and_without_waves(tmp_path):
    make(tmp_path, {"a.wav": level(0.5, 1.0), "b.wav": level(0.5, 0.3)})
    made = AudioDataset.from_path(
        tmp_path, segment_duration=None, sample_rate=RATE // 2, load_wav=False, return_info=True
    )
    assert len(made) == 2
    wav, info = made[1]
    assert wav.shape == (2, 0) and (info.n_frames, info.meta.path) == (2400, str(tmp_path / "b.wav"))
    cut = AudioDataset.from_path(tmp_path, segment_duration=0.5, sample_rate=RATE, load_wav=False, return_info=True)
    read = AudioDataset.from_path(tmp_path, segment_duration=0.5, sample_rate=RATE, return_info=True)
    for made in (cut, read):
        made.start_epoch(2)
    assert [cut[i][1].n_frames for i in range(10)] == pytest.approx([read[i][1].n_frames for i in range(10)], abs=1)


def test_pickled(tmp_path):
    made = make(tmp_path, {"a.wav": ramp(1.0), "b.wav": ramp(0.7)}, shuffle=True)
    made.start_epoch(4)
    copy = pickle.loads(pickle.dumps(made))
    assert torch.equal(copy[3][0], made[3][0])


def test_in_the_workers_of_a_loader(tmp_path):
    """Spawned workers give the same segments, and an error of theirs is still one line."""
    made = make(tmp_path, {"a.wav": ramp(1.0), "b.wav": ramp(0.7)}, shuffle=True, num_samples=4)
    made.start_epoch(1)
    expected = torch.stack([made[index][0] for index in range(4)])

    def load():
        return DataLoader(made, 4, num_workers=1, collate_fn=made.collater, multiprocessing_context="spawn")

    batch, infos = next(iter(load()))
    assert torch.equal(batch, expected) and len(infos) == 4
    for item in made.meta:
        (tmp_path / item.path).write_text("no audio")
    with pytest.raises(UserError) as caught:
        next(iter(load()))
    assert str(of_worker(caught.value)).startswith("none of the 2 files can be read")
    assert made._told.tolist() == [1, 1], "the main process knows what a worker complained about"
