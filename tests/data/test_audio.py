"""Reading and writing files of every kind, and files that are none."""

import av
import numpy as np
import pytest
import soundfile
import torch
from odd_files import encode

from audiocraft.data import audio as audio_module
from audiocraft.data.audio import UnreadableAudio, audio_blocks, audio_info, audio_read, audio_write
from audiocraft.errors import UserError

RATE = 32000


def sweep(seconds: float = 2.0, rate: int = RATE, channels: int = 2) -> torch.Tensor:
    """[C, T], each channel a rising tone of its own: any shift in time shows."""
    t = torch.arange(int(seconds * rate)) / rate
    return torch.stack([0.4 * torch.sin(2 * torch.pi * (200 + 50 * c + 150 * t) * t) for c in range(channels)])


@pytest.mark.parametrize("format, tolerance", [("wav", 2e-5), ("flac", 2e-5), ("ogg", 0.05), ("mp3", 0.02)])
def test_write_and_read_back(tmp_path, format, tolerance):
    wav = sweep()
    path = audio_write(tmp_path / "new/take.01", wav, RATE, format=format, strategy="clip")
    assert path == tmp_path / f"new/take.01.{format}"
    info = audio_info(path)
    assert (info.sample_rate, info.duration, info.channels) == (RATE, 2.0, 2)
    read, rate = audio_read(path)
    assert rate == RATE and read.dtype == torch.float32
    torch.testing.assert_close(read, wav, rtol=0, atol=tolerance)
    part, _ = audio_read(path, seek_time=0.7301, duration=0.5)
    assert torch.equal(part, read[:, int(0.7301 * RATE) :][:, : RATE // 2])
    assert [file.name for file in path.parent.iterdir()] == [path.name], "no temporary file may stay"


def test_bit_rates(tmp_path):
    noise = torch.randn(1, 3 * RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    size = {
        rate: audio_write(tmp_path / str(rate), noise, RATE, format="mp3", mp3_rate=rate).stat().st_size
        for rate in (64, 320)
    }
    assert size[320] == pytest.approx(3 * 320_000 / 8, rel=0.05) and size[64] == pytest.approx(3 * 64_000 / 8, rel=0.05)
    ogg = {
        rate: audio_write(tmp_path / f"o{rate}", noise, RATE, format="ogg", ogg_rate=rate).stat().st_size
        for rate in (48, 160)
    }
    assert ogg[48] < 0.6 * ogg[160]


@pytest.mark.parametrize("name", ["x.wav", "x.aiff", "x.flac"])
@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
def test_depths_and_channels(tmp_path, name, subtype):
    subtype = "PCM_U8" if (name, subtype) == ("x.wav", "PCM_S8") else subtype
    wav = sweep(0.5, 22050, channels=6)
    soundfile.write(tmp_path / name, wav.T.numpy(), 22050, subtype=subtype)
    read, rate = audio_read(tmp_path / name)
    assert rate == 22050 and read.shape == (6, 11025)
    bits = {"8": 8, "6": 16, "4": 24}[subtype[-1]]
    torch.testing.assert_close(read, wav, rtol=0, atol=1.01 * 2.0 ** (1 - bits) + 1e-7)


@pytest.mark.parametrize("name, codec", [("x.m4a", "aac"), ("x.aac", "aac"), ("x.mp4", "aac"), ("x.opus", "libopus")])
def test_ffmpeg_formats(tmp_path, name, codec):
    rate = 48000
    wav = sweep(2.0, rate)
    encode(tmp_path / name, codec, wav, rate)
    info = audio_info(tmp_path / name)
    read, read_rate = audio_read(tmp_path / name)
    assert (info.sample_rate, info.channels, read_rate) == (rate, 2, rate)
    assert info.duration == pytest.approx(read.shape[1] / rate, abs=1e-6)
    # A bare AAC stream cannot say that its first frame is the encoder's run-up and its last one is not full.
    extra = 1024 if name.endswith(".aac") else 0
    assert 0 <= read.shape[1] - wav.shape[1] <= 2 * extra
    torch.testing.assert_close(read[:, extra + 4800 : extra + 90000], wav[:, 4800:90000], rtol=0, atol=0.05)
    part, _ = audio_read(tmp_path / name, seek_time=1.2345, duration=0.5)
    begin = int(1.2345 * rate)
    assert part.shape == (2, rate // 2)
    assert torch.equal(part, read[:, begin : begin + rate // 2])
    assert torch.equal(torch.cat(list(audio_blocks(tmp_path / name, 0.3)[0]), dim=1), read)


def test_blocks_are_the_file(tmp_path):
    path = audio_write(tmp_path / "x", sweep(1.0), RATE)
    blocks, rate = audio_blocks(path, seconds=0.3)
    blocks = list(blocks)
    assert rate == RATE and [block.shape[1] for block in blocks] == [9600, 9600, 9600, 3200]
    assert torch.equal(torch.cat(blocks, dim=1), audio_read(path)[0])


def test_beyond_the_end(tmp_path):
    path = audio_write(tmp_path / "x", sweep(1.0), RATE)
    assert audio_read(path, seek_time=3.0)[0].shape == (2, 0)
    padded, _ = audio_read(path, seek_time=0.75, duration=0.5, pad=True)
    assert padded.shape == (2, RATE // 2) and not padded[:, RATE // 4 :].any()


def test_one_sample(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.full((1, 1), 0.5), RATE)
    assert audio_read(tmp_path / "x.wav")[0].tolist() == [[0.5]]


def test_files_that_are_no_audio(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not audio\n" * 100)
    (tmp_path / "text.m4a").write_text("not audio\n" * 100)
    (tmp_path / "cut.flac").write_bytes(audio_write(tmp_path / "x", sweep(), RATE, "flac").read_bytes()[:20])
    soundfile.write(tmp_path / "nan.wav", np.array([[0.0], [np.nan], [0.1]]), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "loud.wav", np.array([[0.0], [-1e29], [0.1]]), RATE, subtype="FLOAT")
    for name, reason in [
        ("empty.wav", "the file is empty"),
        ("text.wav", "it is not an audio file"),
        ("text.m4a", "it is not an audio file"),
        ("cut.flac", ""),
        ("nan.wav", "NaN"),
        ("loud.wav", "its samples reach 1.0e+29 times full scale"),
        ("absent.wav", "there is no such file"),
        (".", "it is a folder"),
    ]:
        with pytest.raises(UnreadableAudio, match=name) as caught:
            audio_read(tmp_path / name)
        assert reason in caught.value.reason
        assert "\n" not in str(caught.value) and str(caught.value).endswith("replace the file or leave it out")


def test_video_without_sound(tmp_path):
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(UnreadableAudio, match="no audio stream"):
        audio_info(tmp_path / "x.mp4")


def test_what_cannot_be_written(tmp_path):
    wav = sweep(0.1)
    (tmp_path / "x.wav").write_text("earlier take")
    with pytest.raises(UserError, match="NaN"):
        audio_write(tmp_path / "x", wav * float("nan"), RATE)
    with pytest.raises(UserError, match="choose one of wav, flac, ogg, mp3"):
        audio_write(tmp_path / "x", wav, RATE, format="aac")
    with pytest.raises(UserError, match="mp3 does not hold 2 channels at 96000 Hz"):
        audio_write(tmp_path / "x", wav, 96000, format="mp3")
    with pytest.raises(UserError, match="there is no folder"):
        audio_write(tmp_path / "no/x", wav, RATE, make_parent_dir=False)
    assert (tmp_path / "x.wav").read_text() == "earlier take"
    assert [file.name for file in tmp_path.iterdir()] == ["x.wav"]


def test_full_disk(tmp_path, monkeypatch):
    (tmp_path / "x.wav").write_text("earlier take")
    # libsndfile only says "System error." when a write fails.
    monkeypatch.setattr(soundfile.SoundFile, "write", lambda *_: (_ for _ in ()).throw(soundfile.LibsndfileError(2)))
    monkeypatch.setattr("audiocraft.utils.files.free_bytes", lambda path: 0)
    with pytest.raises(UserError, match="the disk is full"):
        audio_module.audio_write(tmp_path / "x", sweep(0.1), RATE)
    assert (tmp_path / "x.wav").read_text() == "earlier take"
    assert [file.name for file in tmp_path.iterdir()] == ["x.wav"]


def test_time_and_channels_that_changed_places_are_not_written(tmp_path):
    with pytest.raises(UserError, match=r"at most 8 channels.*\[4000, 2\]; transpose"):
        audio_write(tmp_path / "a", torch.zeros(4000, 2), 16000)
    assert not list(tmp_path.iterdir())
    audio_write(tmp_path / "a", torch.zeros(8, 4000), 16000)
    assert audio_read(tmp_path / "a.wav")[0].shape == (8, 4000)
