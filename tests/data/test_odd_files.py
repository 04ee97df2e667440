"""Files as people have them: read whole and in time, or refused with a reason; what is odd is told."""

import logging
import os
import random
import struct

import av
import numpy as np
import pytest
import soundfile
import torch
from odd_files import CASES, RATE, encode, make_cases, noise, patched
from torch.utils.data import DataLoader

from audiocraft.commands.generate import Asked
from audiocraft.data.audio import UnreadableAudio, audio_blocks, audio_info, audio_read
from audiocraft.data.audio_dataset import AudioDataset, AudioMeta, load_audio_meta, main
from audiocraft.data.readers import open_audio
from audiocraft.data.scan import scan_folder
from audiocraft.errors import UserError


@pytest.fixture(autouse=True)
def own_stderr(monkeypatch):
    """A run that was trained before in this process has left its log on the terminal."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [h for h in root.handlers if not hasattr(h, "micro_musicgen")])


def agree(path, seeks: int = 4, seed: int = 0) -> torch.Tensor:
    """All of a file; what the header, blocks and stretches of it say must be the same, to the bit."""
    info = audio_info(path)
    wav, rate = audio_read(path)
    assert (info.sample_rate, info.channels, info.duration) == (rate, wav.shape[0], wav.shape[1] / rate)
    blocks = list(audio_blocks(path, 0.41)[0])
    assert all(block.shape[1] == int(0.41 * rate) for block in blocks[:-1])
    assert torch.equal(torch.cat([wav[:, :0], *blocks], dim=1), wav)
    rng = random.Random(seed)
    for _ in range(seeks):
        place = rng.uniform(0, info.duration)
        begin = int(place * rate)
        assert torch.equal(audio_read(path, place, 0.7)[0], wav[:, begin : begin + int(0.7 * rate)])
    return wav


@pytest.mark.parametrize(
    "name, seconds, note",
    [
        ("streamed.flac", 6.0, "its header names no length; all 6.00 s that are there are read"),
        ("vbr_no_xing.mp3", 12.042, None),
        ("chained.ogg", 6.0, None),
        ("concatenated.mp3", 6.063, "its header promises 3.01 s; all 6.06 s that are there are read"),
        ("unfinished.wav", 2.0, "its header names no length; all 2.00 s that are there are read"),
        ("integers_in_float.wav", 1.0, "its samples reach 2929 times full scale; they are scaled to fit it"),
        ("take.webm", 3.003, None),
        ("take.mka", 3.007, None),
        ("take.wave", 4.0, None),
        ("take.stem.mp4", 4.0, None),
        ("12:30.m4a", 4.0, None),
    ],
)
def test_cases(tmp_path, capfd, name, seconds, note):
    make_cases(tmp_path)
    assert audio_info(tmp_path / name).duration == pytest.approx(seconds, abs=1e-3)
    wav = agree(tmp_path / name)
    assert 0.2 < wav.abs().max() < 1.1 and wav[:, -2000:].std() > 0.01
    assert open_audio(tmp_path / name).notes() == ([] if note is None else [note])
    assert capfd.readouterr() == ("", ""), "libraries must not write to the terminal themselves"


def test_made_cases_hold_what_was_made(tmp_path):
    make_cases(tmp_path)
    for name, seconds in [("streamed.flac", 6.0), ("unfinished.wav", 2.0), ("take.wave", 4.0)]:
        wav, rate = audio_read(tmp_path / name)
        torch.testing.assert_close(wav, torch.from_numpy(noise(seconds, rate=rate).T), rtol=0, atol=4e-5)
    scaled = torch.from_numpy(noise(1.0).T / np.abs(noise(1.0)).max())
    torch.testing.assert_close(audio_read(tmp_path / "integers_in_float.wav")[0], scaled)


def test_manifest_of_all_cases(tmp_path, monkeypatch, capfd):
    make_cases(tmp_path / "music")
    (tmp_path / "music/fav").mkdir()
    (tmp_path / "music/fav/best.wave").symlink_to("../take.wave")
    monkeypatch.chdir(tmp_path)
    assert main(["music", "egs/data.jsonl"]) == 0
    out, error = capfd.readouterr()
    found = {item.path: item.duration for item in load_audio_meta("egs/data.jsonl", resolve=False)}
    assert len(found) == 11 and "music/fav/best.wave" not in found and found["music/streamed.flac"] == 6.0
    assert "music/unknown_codec.m4a: no decoder for apac" in out
    assert "music/unfinished.wav: its header names no length; all 2.00 s that are there are read" in out
    assert "Reading files" in error and "arning" not in error
    made = AudioDataset.from_meta("egs", segment_duration=1.0, num_samples=40, sample_rate=RATE, channels=1)
    made.start_epoch(1)
    batches = list(DataLoader(made, batch_size=8, num_workers=2, collate_fn=made.collater))
    assert (torch.cat(batches).std(dim=-1) > 0.01).all()
    told = capfd.readouterr().err
    assert "odd" not in told and told.count("\n") == 0, "what the report said is not said again"


def test_unknown_codec_is_one_line():
    path = CASES / "unknown_codec.m4a"
    with pytest.raises(UserError, match="no decoder for apac"):
        Asked("model", 10.0, {}, path, None, None, 3.0)._read_prompt(path)
    for read in (audio_info, audio_read, audio_blocks):
        with pytest.raises(UnreadableAudio, match=r"unknown_codec.m4a .* no decoder for apac; replace the file"):
            read(path)


CODECS = [
    *(
        ("x.wma", "wmav2"),
        ("x.mka", "aac"),
        ("x.mkv", "ac3"),
        ("x.m4a", "alac"),
        ("x.mp3", "libmp3lame"),
        ("x.mp2", "mp2"),
    ),
    *(("x.mp4", "libmp3lame"), ("x.avi", "pcm_s16le"), ("x.mov", "pcm_f32le"), ("x.ts", "aac"), ("x.ogg", "vorbis")),
    *(
        ("x.oga", "flac"),
        ("x.mka", "flac"),
        ("x.aac", "aac"),
        ("x.wv", "wavpack"),
        ("x.tta", "tta"),
        ("x.wav", "adpcm_ms"),
    ),
    *(("x.opus", "libopus"), ("x.webm", "libopus"), ("x.flv", "aac")),
]


@pytest.mark.parametrize("name, codec", CODECS)
def test_seeks_and_blocks_are_exact(tmp_path, name, codec):
    rate = {"libopus": 48000, "ac3": 32000}.get(codec, 22050)
    wav = torch.from_numpy(noise(24.0, 1, rate).T.copy())
    encode(tmp_path / name, codec, wav, rate)
    read = agree(tmp_path / name, seeks=5)
    assert abs(read.shape[1] - wav.shape[1]) < 0.12 * rate and open_audio(tmp_path / name).notes() == []
    assert abs(read).max() < 1.2


@pytest.mark.parametrize("bits", ["8000", "24000"])
def test_low_rates_of_mp3(tmp_path, bits):
    """Frames so small that what one needs lies in many before it."""
    wav = torch.from_numpy(noise(50.0, rate=24000).T.copy())
    encode(tmp_path / "x.mp3", "libmp3lame", wav, 24000, {"b": bits, "abr": "1"}, {"write_xing": "0"})
    assert 0 <= agree(tmp_path / "x.mp3", seeks=8).shape[1] - wav.shape[1] < 3000


def sized(path, form: str) -> tuple[bytes, int, str]:
    """A file of plain samples, and where its size is written and how."""
    soundfile.write(path, noise(1.0, 2), RATE, format=form, subtype="PCM_16")
    data = path.read_bytes()
    mark = {"AIFF": b"SSND", "AU": b".snd"}.get(form, b"data")
    place = data.index(mark, 40 if form == "W64" else 0) + {"W64": 16, "AU": 8}.get(form, 4)
    return data, place, {"W64": "<Q", "AIFF": ">I", "AU": ">I", "CAF": ">Q"}.get(form, "<I")


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "W64", "AIFF", "CAF", "AU"])
def test_sizes_that_are_wrong(tmp_path, form):
    path = tmp_path / "x"
    data, place, number = sized(path, form)
    whole = agree(path)
    assert whole.shape == (2, RATE) and open_audio(path).notes() == []
    top = (1 << 8 * struct.calcsize(number)) - 1
    for size in (0, 1, top, top - 1, top // 2 + 1, (1 << 32) - 1, 1 << 30):
        path.write_bytes(patched(data, place, number, size))
        assert torch.equal(agree(path), whole) and len(open_audio(path).notes()) == 1
    path.write_bytes(patched(data, place, number, struct.unpack_from(number, data, place)[0] - 4 * 11025))
    assert torch.equal(agree(path), whole[:, :11025]) and "bytes after its samples" in open_audio(path).notes()[0]
    for times in (2, 5):
        path.write_bytes(data * times)
        assert torch.equal(agree(path), whole.repeat(1, times))
    path.write_bytes(data[:-20000])
    assert torch.equal(agree(path), whole[:, :-5000])
    assert open_audio(path).notes() == ["its header promises 1.00 s, 0.77 s are there"]


def test_chunks_around_the_samples(tmp_path):
    path = tmp_path / "x.wav"
    data, _, _ = sized(path, "WAV")
    whole = audio_read(path)[0]
    chunk = b"LIST" + struct.pack("<I", 9) + b"INFOabcde"
    for odd in (
        data[:12] + chunk + b"\0" + data[12:],
        data[:12] + chunk + data[12:],
        data + chunk + b"\0",
        data + b"TAG" * 42,
    ):
        path.write_bytes(odd)
        assert torch.equal(agree(path), whole) and open_audio(path).notes() == []
    path.write_bytes(data + bytes(range(200)))
    assert torch.equal(agree(path), whole) and open_audio(path).notes() == ["200 bytes after its samples are not read"]


@pytest.mark.parametrize("name", ["x.flac", "x.ogg", "x.opus", "x.mp3", "x.m4a", "x.webm", "x.aac", "x.wma"])
def test_chains(tmp_path, name):
    path = tmp_path / name
    codec = {
        "flac": "flac",
        "ogg": "vorbis",
        "opus": "libopus",
        "mp3": "libmp3lame",
        "webm": "libopus",
        "wma": "wmav2",
    }
    encode(path, codec.get(name[2:], "aac"), torch.from_numpy(noise(2.0, 1, 48000).T.copy()), 48000)
    data, seconds = path.read_bytes(), audio_info(path).duration
    for times in (2, 4):
        path.write_bytes(data * times)
        # MP3 keeps the silence with which each file begins.
        assert agree(path).shape[1] / 48000 == pytest.approx(
            times * seconds, abs=0.1 * times if "mp3" in name else 1e-6
        )


def test_links_of_different_rates(tmp_path):
    for name, codec in [("x.ogg", "vorbis"), ("x.mp3", "libmp3lame")]:
        parts = []
        for rate, channels in [(44100, 1), (32000, 2)]:
            encode(tmp_path / name, codec, torch.from_numpy(noise(2.0, channels, rate).T.copy()), rate)
            parts.append((tmp_path / name).read_bytes())
        (tmp_path / name).write_bytes(b"".join(parts))
        wav = agree(tmp_path / name)
        assert wav.shape == (1, pytest.approx(4 * 44100, abs=4000)) and wav[:, -20000:].std() > 0.1
        assert any("its parts differ; all is read at 44100 Hz" in note for note in open_audio(tmp_path / name).notes())


@pytest.mark.parametrize("kind", ["head", "tail", "start", "bytes", "junk", "hole"])
def test_damaged_files_are_read_or_refused(tmp_path, capfd, kind):
    """Nothing but a reason, and never less than there was without a word."""
    make_cases(tmp_path)
    encode(tmp_path / "a.m4a", "aac", torch.from_numpy(noise(2.0).T.copy()), RATE)
    encode(tmp_path / "a.wma", "wmav2", torch.from_numpy(noise(2.0).T.copy()), RATE)
    encode(tmp_path / "a.mp3", "libmp3lame", torch.from_numpy(noise(2.0).T.copy()), RATE)
    (tmp_path / "unknown_codec.m4a").unlink()
    rng = random.Random(kind)
    read = 0
    for source in sorted(tmp_path.iterdir()):
        data, seconds = source.read_bytes(), audio_info(source).duration
        for turn in range(8):
            place, size = rng.randrange(len(data)), rng.randrange(1, 3000)
            made = {
                "head": data[rng.randrange(min(len(data), 2000)) :],
                "tail": data[:place],
                "start": data[: rng.randrange(min(len(data), 300))],
                "bytes": bytearray(data),
                "junk": (rng.randbytes(size) + data, data + rng.randbytes(size))[turn % 2],
                "hole": data[:place] + data[place + size :],
            }[kind]
            if kind == "bytes":
                for _ in range(1 + turn * 5):
                    made[rng.randrange(min(len(made), 100 << turn))] = rng.randrange(256)
            path = tmp_path / f"{kind}{turn}-{source.name}"
            path.write_bytes(made)
            try:
                agree(path, seeks=2)
                read += 1
                lost = seconds - audio_info(path).duration
                # What has no header of the whole cannot know: MP3 without a count of frames, damage within samples.
                silent = kind == "bytes" or "no_xing" in path.name
                assert lost < 0.16 or silent or open_audio(path).notes()
            except UnreadableAudio as error:
                assert error.reason and "\n" not in str(error)
            path.unlink()
    assert read or kind in ("head", "start")
    assert capfd.readouterr() == ("", "")


def test_damage_met_while_reading_is_told(tmp_path, caplog):
    encode(tmp_path / "x.m4a", "aac", torch.from_numpy(noise(20.0).T.copy()), RATE)
    data = bytearray((tmp_path / "x.m4a").read_bytes())
    place = data.index(b"mdat") + 60_000
    data[place : place + 3000] = b"\xff" * 3000
    (tmp_path / "x.m4a").write_bytes(data)
    meta = scan_folder(tmp_path).meta
    made = AudioDataset(meta, 2.0, num_samples=60, sample_rate=RATE, channels=1)
    made.start_epoch(0)
    with caplog.at_level(logging.WARNING):
        assert all(made[index].shape == (1, 2 * RATE) for index in range(60))
    assert len(caplog.messages) == 1 and "x.m4a: it is damaged in " in caplog.messages[0]
    assert agree(tmp_path / "x.m4a").shape[1] == 20 * RATE


def test_a_manifest_that_knows_less(tmp_path, caplog):
    """One made when the header was believed: training uses what it names, and says so once."""
    meta = AudioMeta(str(CASES / "vbr_no_xing.mp3"), 2.47, 44100)
    made = AudioDataset([meta], 1.0, num_samples=5, sample_rate=44100, channels=1)
    with caplog.at_level(logging.WARNING):
        assert all(made[index].std() > 0.01 for index in range(5))
    assert len(caplog.messages) == 1 and "it lasts 12.04 s, its manifest says 2.47 s" in caplog.messages[0]


NAMES = ["12:30.mp3", "http:x.mp3", "concat:a|b.mp3", "-dash.mp3", "%d.mp3", "a b\nc.mp3", "file:x.mp3", "data:,x.mp3"]


@pytest.mark.parametrize("name", [*NAMES, "UP.MP3", "take", "take.stem", "take.flac", "take.png", "img%03d.jpg"])
def test_names_mean_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes((CASES / "concatenated.mp3").read_bytes())
    assert [item.path for item in scan_folder(".").meta] == [name]
    assert audio_read(name)[0].shape[1] == 133679


def test_what_is_no_audio(tmp_path, capfd):
    """Passed over without a word where nothing says that it is audio; lists of other files open none."""
    make_cases(tmp_path / "music")
    rng = random.Random(0)
    texts = {
        "pl.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9.0,\nfile://{tmp_path}/music/take.wave\n#EXT-X-ENDLIST\n",
        "x.ffconcat": "ffconcat version 1.0\nfile take.wave\n",
        "s.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 96\na=rtpmap:96 opus/48000\n",
        "x.mpd": "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
        "a.txt": "la " * 3000,
        "a.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>",
        "a.py": "import os\n",
        "b.json": "{}",
    }
    for name, text in texts.items():
        (tmp_path / "music" / name).write_text(text)
    binary = {
        "a.png": b"\x89PNG\r\n\x1a\n" + rng.randbytes(900),
        "a.pdf": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + rng.randbytes(4000),
        "a.zip": b"PK\3\4" + rng.randbytes(3000),
        "a.mid": b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\0\0\4\0\xff\x2f\0",
        "a.safetensors": struct.pack("<Q", 30) + b'{"a":{"dtype":"F32"}}' + rng.randbytes(90_000),
        "sync.bin": b"\xff\xfb" * 20_000,
        "zero.bin": bytes(50_000),
        **{f"{size}.xyz": rng.randbytes(size) for size in (1, 40, 5000, 400_000)},
    }
    for name, data in binary.items():
        (tmp_path / "music" / name).write_bytes(data)
    with av.open(str(tmp_path / "music/silent.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    os.mkfifo(tmp_path / "music/pipe.wav")
    report = scan_folder(tmp_path / "music", workers=2)
    assert len(report.meta) == 11
    assert sorted(path.rpartition("/")[2] for path, _ in report.skipped) == ["pipe.wav", "unknown_codec.m4a"]
    assert sum(report.other.values()) == len(texts) - 1 + len(binary) + 1
    assert capfd.readouterr() == ("", "")
    for size in (50, 3000, 200_000):
        for seed in range(4):
            (tmp_path / "x.mp3").write_bytes(random.Random(seed).randbytes(size))
            with pytest.raises(UnreadableAudio, match="it is not an audio file"):
                audio_read(tmp_path / "x.mp3")
    (tmp_path / "lists").mkdir()
    (tmp_path / "music/pl.m3u8").rename(tmp_path / "lists/pl.m4a")
    (tmp_path / "music/x.ffconcat").rename(tmp_path / "lists/x.mp3")
    with pytest.raises(UserError, match="none of the 2 audio files"):
        scan_folder(tmp_path / "lists")


def test_one_file_by_many_names(tmp_path):
    soundfile.write(tmp_path / "s1.wav", noise(1.0), RATE)
    (tmp_path / "fav").mkdir()
    (tmp_path / "fav/best.wav").symlink_to("../s1.wav")
    (tmp_path / "a-link.wav").symlink_to("s1.wav")
    (tmp_path / "z-hard.wav").hardlink_to(tmp_path / "s1.wav")
    (tmp_path / "fav/round").symlink_to(tmp_path)
    (tmp_path / "dead.wav").symlink_to("nowhere.wav")
    for resolve in (False, True):
        report = scan_folder(tmp_path, resolve=resolve)
        assert [item.path for item in report.meta] == [str(tmp_path / "s1.wav")]
        assert report.skipped == [(str(tmp_path / ("nowhere.wav" if resolve else "dead.wav")), "there is no such file")]


def test_loud_floats(tmp_path):
    """Up to 10 times full scale is kept, up to 10,000 scaled, above refused; wherever in the file it is read."""
    wave = noise(2.0) / np.abs(noise(2.0)).max()
    for peak, scaled in [(9.9, 9.9), (10.1, 1.0), (9999.0, 1.0)]:
        soundfile.write(tmp_path / f"{peak}.wav", wave * peak, RATE, subtype="FLOAT")
        assert agree(tmp_path / f"{peak}.wav").abs().max().item() == pytest.approx(scaled, rel=1e-4)
    soundfile.write(tmp_path / "bad.wav", wave * 10_100, RATE, subtype="FLOAT")
    soundfile.write(
        tmp_path / "nan.wav", np.where(np.arange(len(wave))[:, None] == 99, np.nan, wave), RATE, subtype="DOUBLE"
    )
    report = scan_folder(tmp_path)
    assert [path.rpartition("/")[2] for path, _ in report.odd] == ["10.1.wav", "9999.0.wav"]
    assert "10.1 times full scale; they are scaled to fit it" in "\n".join(report.lines())
    assert [path.rpartition("/")[2] for path, _ in report.skipped] == ["bad.wav", "nan.wav"]


@pytest.mark.parametrize("frames", [1, 2, 160, 2321, 2882, 8000])
@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize(("ending", "subtype"), [("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III")])
def test_one_shots_are_as_long_as_they_were(tmp_path, ending, subtype, rate, frames):
    """An encoder's padding may span packets, and the only page of an ogg file ends within its last one."""
    path = tmp_path / f"shot.{ending}"
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (frames, 2)).astype("float32")
    soundfile.write(path, noise, rate, format=ending.upper(), subtype=subtype)
    wav, _ = audio_read(path)
    assert wav.shape == (2, frames) and audio_info(path).duration == frames / rate
    assert torch.equal(torch.cat(list(audio_blocks(path, 0.01)[0]), dim=1), wav)
    last = frames // 2
    assert torch.equal(audio_read(path, (last + 0.5) / rate)[0], wav[:, last:])
    assert open_audio(path).notes() == []
