"""Measuring codecs: clips, references, silence, what breaks off."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from heard import hum, onset_correlation, pitch_kept

from audiocraft.errors import UserError
from audiocraft.metrics import codebook_usage, log_mel_distance, si_sdr
from audiocraft.metrics.codec_eval import Evaluation, FileScore, Score, clips, entropy_rate, evaluate
from audiocraft.metrics.codec_figure import draw, spectrogram_db, take_excerpt
from audiocraft.metrics.codec_table import table
from audiocraft.metrics.coders import CodecCoder, Coded, with_references
from audiocraft.models.builders import get_debug_compression_model
from audiocraft.quantization import DummyQuantizer

RATE = 32000


def tiny(rate: int = RATE):
    torch.manual_seed(0)
    return get_debug_compression_model(sample_rate=rate)


def tone(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal((len(time), channels))
    return (0.3 * np.sin(2 * np.pi * 220 * time)[:, None] + 0.05 * noise).astype("float32")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    soundfile.write(paths[0], tone(1.5), RATE, subtype="FLOAT")
    soundfile.write(paths[1], tone(0.8, 44100, 2), 44100, subtype="FLOAT")
    return paths


class Gain:
    """A coder that changes the level and tells no bits."""

    name, kind, bins, frame_rate, codebooks, inner_rates = "gain", "codec", None, None, None, (50.0, 100.4, 2000.0)

    def code(self, wav: torch.Tensor, sample_rate: int) -> Coded:
        return Coded(0.5 * wav, 1e-3, 1e-3)


def test_numbers_are_those_of_the_metrics(files: list[Path]) -> None:
    codec = tiny()
    score = evaluate([CodecCoder(codec, "tiny")], files[:1], RATE, 1).scores[0]
    original = torch.from_numpy(tone(1.5).T.copy())[None]
    with torch.no_grad():
        codes, _ = codec.encode(original)
        estimate = codec.decode(codes)[..., : original.shape[-1]]
    (file,) = score.files
    assert file.seconds == 1.5
    assert file.log_mel_db == pytest.approx(log_mel_distance(estimate, original, RATE).item(), rel=1e-5)
    assert file.log_mel_below_4khz_db == pytest.approx(
        log_mel_distance(estimate, original, RATE, 4000).item(), rel=1e-5
    )
    assert file.si_sdr_db == pytest.approx(si_sdr(estimate, original).item(), abs=1e-3)
    assert file.pitch_kept == pitch_kept(estimate[0], original[0], RATE)
    assert file.onsets == pytest.approx(onset_correlation(estimate[0], original[0], RATE))
    assert codec.inner_rates == [25, 250, 2000]  # the first are too close for bins between, the last has no multiples
    assert file.hum_db == {250: pytest.approx(hum(estimate[0], original[0], RATE, 250))}
    usage = codebook_usage(codes, 400)
    assert score.codebooks == usage and score.frames == 38
    assert score.bits_per_second == pytest.approx(25 * sum(np.log2(one.perplexity) for one in usage))
    assert score.nominal_bits_per_second == pytest.approx(4 * 25 * np.log2(400))
    assert file.encode_speed > 0 and file.decode_speed > 0


def test_references(files: list[Path]) -> None:
    codec, other = tiny(), tiny(16000)
    codec.set_num_codebooks(3)
    coders = with_references(codec, "tiny", [(other, "slow")])
    names = ["tiny", "slow", "tiny, 1 codebook", "tiny, 2 codebooks", "Opus 6 kb/s", "Opus 12 kb/s"]
    assert [coder.name for coder in coders] == names
    result = evaluate(coders, files, RATE, 1)
    assert [score.name for score in result.scores] == [*names, "silence", "spectrum at its median"]
    by_name = {score.name: score for score in result.scores}
    assert all([Path(file.file) for file in score.files] == files for score in result.scores)
    assert [len(by_name[name].codebooks) for name in names[:4]] == [3, 4, 1, 2]
    # Residual codebooks: the first of fewer is the first of all.
    assert by_name["tiny, 1 codebook"].codebooks[0] == by_name["tiny"].codebooks[0]
    assert codec.num_codebooks == 3 and other.num_codebooks == 4
    assert by_name["Opus 6 kb/s"].bits_per_second == pytest.approx(6000)
    assert by_name["Opus 12 kb/s"].mean("log_mel_below_4khz_db") < by_name["tiny"].mean("log_mel_below_4khz_db")
    assert by_name["silence"].mean("log_mel_db") > by_name["spectrum at its median"].mean("log_mel_db") > 0
    assert by_name["silence"].mean("si_sdr_db") is None and by_name["silence"].speed("encode") is None


def test_codebooks_are_put_back_after_a_failure() -> None:
    codec = tiny()
    coder = CodecCoder(codec, "tiny", "codebooks", 1)
    with pytest.raises(UserError):
        coder.code(torch.zeros(1, 0), RATE)
    assert codec.num_codebooks == 4


@pytest.mark.parametrize("length", [1, 2, 639, 641, 12345])
def test_length_stays(length: int) -> None:
    wav = 0.1 * torch.randn(2, length, generator=torch.Generator().manual_seed(0))
    for coder in with_references(tiny(), "tiny", [(tiny(16000), "slow")]):
        assert coder.code(wav, RATE).wav.shape == wav.shape


def test_clips_join_to_the_file(tmp_path: Path) -> None:
    """30 s and 30.5 s: the last half second is no clip of its own."""
    wave = tone(60.5, 2000)
    soundfile.write(tmp_path / "long.wav", wave, 2000, subtype="FLOAT")
    parts = list(clips(tmp_path / "long.wav", 2000, 1))
    assert [part.shape[1] for part in parts] == [60000, 61000]
    assert torch.equal(torch.cat(parts, dim=1), torch.from_numpy(wave.T.copy()))
    assert [part.shape for part in clips(tmp_path / "long.wav", 1000, 2, 31.25)] == [(2, 30000), (2, 1250)]
    assert [part.shape[1] for part in clips(tmp_path / "long.wav", 2000, 1, 0.25)] == [500]


def test_a_long_file_is_the_sum_of_its_clips(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", tone(32.0, 8000), 8000)
    (score,) = (one for one in evaluate([Gain()], [tmp_path / "long.wav"], 8000, 1).scores if one.name == "gain")
    (file,) = score.files
    assert file.seconds == 32
    assert file.log_mel_db == pytest.approx(6.0, abs=0.1)
    assert file.si_sdr_db > 40
    assert file.pitch_kept == 1 and file.onsets > 0.95
    assert file.hum_db == {50: pytest.approx(0, abs=0.1), 100: pytest.approx(0, abs=0.1)}  # 2 kHz has no room
    assert score.codebooks == [] and score.bits_per_second == 0
    assert file.encode_speed == pytest.approx(32 / 2e-3)


def test_silence_has_no_ratios(tmp_path: Path, files: list[Path]) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    score = evaluate([CodecCoder(tiny(), "tiny")], [*files, tmp_path / "silent.wav"], RATE, 1).scores[0]
    silent = score.files[2]
    assert silent.stft is None and silent.si_sdr_db is None and silent.log_mel_db >= 0
    assert silent.pitch_kept is None and silent.onsets is None and silent.hum_db == {}
    assert score.mean("si_sdr_db") == pytest.approx(np.mean([file.si_sdr_db for file in score.files[:2]]))


def test_what_breaks_off_is_left_out(tmp_path: Path, files: list[Path]) -> None:
    bad = tmp_path / "bad.wav"
    wave = tone(1.0)
    wave[500] = np.nan
    soundfile.write(bad, wave, RATE, subtype="FLOAT")
    result = evaluate([CodecCoder(tiny(), "tiny")], [bad, *files], RATE, 1)
    assert len(result.scores[0].files) == 2
    assert result.skipped == [(str(bad), "it holds NaN or infinite samples")]
    with pytest.raises(UserError, match=r"none of the 1 files can be measured .*NaN"):
        evaluate([CodecCoder(tiny(), "tiny")], [bad], RATE, 1)


def test_broken_codecs_are_refused() -> None:
    codec = tiny()
    next(codec.decoder.parameters()).data.fill_(float("nan"))
    with pytest.raises(UserError, match="tiny decodes to NaN"):
        CodecCoder(codec, "tiny").code(torch.zeros(1, 640), RATE)
    codec.quantizer = DummyQuantizer()
    with pytest.raises(UserError, match="no codebooks to measure"):
        CodecCoder(codec, "tiny")


def test_records_are_json() -> None:
    """Which knows no NaN."""
    nan, infinity = float("nan"), float("inf")
    file = FileScore("a.wav", 1.0, nan, infinity, hum_db={50: 2.0, 400: nan}, stft=0.5)
    record = Score("x", "codec", [file], bits_per_second=nan).record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    missing = dict.fromkeys(("log_mel_db", "log_mel_below_4khz_db", "pitch_kept", "onsets", "si_sdr_db"))
    assert record["mean"] == {**missing, "hum_db": {"50": 2.0, "400": None}, "stft": 0.5}
    assert record["files"][0]["hum_db"] == {"50": 2.0, "400": None}
    assert record["files"][0]["log_mel_db"] is None and record["bits_per_second"] is None


def test_entropy_rate() -> None:
    counts = torch.tensor([[5, 5, 5, 5], [20, 0, 0, 0]])
    assert entropy_rate(counts, 50.0) == pytest.approx(100)


@pytest.fixture
def result(files: list[Path]) -> tuple[Evaluation, list]:
    coders = with_references(tiny(), "tiny", opus=False)
    return evaluate(coders, files, RATE, 1), coders


def test_table(result: tuple[Evaluation, list]) -> None:
    evaluation, _ = result
    evaluation.skipped.append(("c.wav", "the file is empty"))
    lines = table(evaluation, 2, "cpu").splitlines()
    assert lines[0] == "2 files, 0:02 min, compared at 32 kHz, 1 channel; on cpu, 2 threads"
    assert lines[2].split()[0] == "tiny" and [line.split()[0] for line in lines[3:6]] == ["a.wav", "b.wav", "mean"]
    assert lines[2].endswith("log-mel  < 4 kHz    pitch   onsets  hum 250     STFT   SI-SDR     kb/s")
    assert float(lines[5].split()[6]) == pytest.approx(evaluation.scores[0].hums()[250], abs=0.06)
    mean = float(lines[5].split()[2])
    assert mean == pytest.approx(evaluation.scores[0].mean("log_mel_db"), abs=0.006)
    starts = [line.split("  ")[0] for line in lines]
    assert {"tiny, 1 codebook", "tiny, 3 codebooks", "silence", "spectrum at its median"} <= set(starts)
    assert sum(" of 400 (" in line for line in lines) == 4
    assert any("come out too low" in line for line in lines)
    assert lines[-1] == "  c.wav: the file is empty"


def test_figure(result: tuple[Evaluation, list], tmp_path: Path) -> None:
    from PIL import Image

    evaluation, coders = result
    excerpt = take_excerpt(evaluation, coders, 0.5)
    assert [name for name, _ in excerpt.waves] == ["original", "tiny"]
    assert {tuple(wav.shape) for _, wav in excerpt.waves} == {(1, RATE // 2)}
    assert excerpt.start == pytest.approx(0.5 if excerpt.file.endswith("a.wav") else 0.15)
    draw(evaluation, excerpt, tmp_path / "new" / "eval.png")
    picture = np.asarray(Image.open(tmp_path / "new" / "eval.png").convert("L"))
    assert picture.shape[1] == 1200 and picture.std() > 30


def test_spectrogram_is_in_db_of_full_scale() -> None:
    wav = torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)[None]
    power = spectrogram_db(wav)
    assert power.max().item() == pytest.approx(0, abs=0.2)
    assert power[:, 60].argmax().item() == 32
    assert spectrogram_db(torch.zeros(1, 10)).max() < -150
