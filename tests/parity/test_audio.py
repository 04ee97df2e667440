"""Conversion, levels, integer samples and file reading against the reference's numbers."""

import json

import pytest
import torch
from safetensors.torch import load_file

from audiocraft.data.audio import audio_read
from audiocraft.data.audio_utils import convert_audio, f32_pcm, i16_pcm, loudness, normalize_audio
from audiocraft.errors import UserError

# Ten times the worst spread measured for the reference itself.
CONVERT_TOLERANCE = {
    "conv_44100_32000_2to1": 2e-6,
    "conv_44100_16000_2to2": 4e-6,
    "conv_48000_32000_2to1": 2e-6,
    "conv_16000_32000_1to2": 3e-6,
    "conv_32000_32000_2to1": 7e-7,
    "conv_22050_44100_1to1_second": 2e-6,
}
NORMALIZE_TOLERANCE = {
    "norm_loud_peak": 1e-6,
    "norm_loud_clip": 9e-7,
    "norm_loud_rms": 8e-7,
    "norm_stereo_loudness_compressor": 3e-5,
}


@pytest.fixture(scope="module")
def facts(golden):
    return json.loads((golden / "audio/audio.json").read_text())


@pytest.fixture(scope="module")
def tensors(golden):
    return load_file(golden / "audio/io.safetensors")


@pytest.fixture(scope="module")
def inputs(tensors):
    stereo = tensors["norm_in_stereo"]
    return {"stereo": stereo, "mono": tensors["norm_in_mono"], "loud": stereo * 2.7, "quiet": stereo * 1e-3}


def test_convert(facts, tensors):
    for case in facts["convert"]:
        wav = tensors["conv_in"]
        wav = {"conv_in": wav, "conv_in[:1]": wav[:1], "conv_in[1:]": wav[1:]}[case["input"]]
        out = convert_audio(wav, case["from_rate"], case["to_rate"], case["to_channels"])
        assert out.shape == (case["to_channels"], case["length"])
        torch.testing.assert_close(out, tensors[case["tensor"]], rtol=0, atol=CONVERT_TOLERANCE[case["tensor"]])


def test_normalize(facts, inputs, tensors):
    for case in facts["normalize"]:
        strategy, wav = case["args"]["strategy"], inputs[case["input"]]
        if "error" in case:
            with pytest.raises(UserError, match="full scale"):
                normalize_audio(wav, **case["args"])
            continue
        if strategy == "loudness" and case["input"] == "loud":
            continue  # the reference measures a clipped signal there: see test_loudness_of_signals_above_full_scale
        out = normalize_audio(wav, **case["args"])
        # The two loudness meters may differ by 0.001 dB; everything else is arithmetic.
        rel = 1.16e-4 if strategy == "loudness" else 1e-5
        assert out.abs().max().item() == pytest.approx(case["absmax"], rel=rel), case
        assert out.double().pow(2).mean().sqrt().item() == pytest.approx(case["rms"], rel=rel), case
        peak = wav.abs().argmax()
        assert (out.view(-1)[peak] / wav.view(-1)[peak]).item() == pytest.approx(case["gain_at_peak"], rel=rel), case
        if case["only_scaled"]:
            torch.testing.assert_close(out, wav * (out.view(-1)[peak] / wav.view(-1)[peak]), rtol=1e-5, atol=1e-7)
        if "tensor" in case:
            torch.testing.assert_close(out, tensors[case["tensor"]], rtol=0, atol=NORMALIZE_TOLERANCE[case["tensor"]])


def test_loudness(facts, inputs):
    measured = {case["input"]: case["lkfs"] for case in facts["loudness_lkfs"]}
    assert loudness(inputs["stereo"], 32000) == pytest.approx(measured["stereo"], abs=1e-3)
    assert loudness(inputs["mono"], 32000) == pytest.approx(measured["mono"], abs=1e-3)


def test_loudness_of_signals_above_full_scale(inputs):
    """Scaling by 2.7 adds 20 log10(2.7) dB, also above full scale, and the target is met there too."""
    gain_db = 20 * torch.tensor(2.7).log10().item()
    assert loudness(inputs["loud"], 32000) - loudness(inputs["stereo"], 32000) == pytest.approx(gain_db, abs=1e-4)
    out = normalize_audio(inputs["loud"], strategy="loudness", loudness_headroom_db=22, sample_rate=32000)
    assert loudness(out, 32000) == pytest.approx(-22, abs=1e-3)


def test_pcm(facts):
    pcm = facts["pcm"]
    for name in ("", "_with_one"):
        out = i16_pcm(torch.tensor(pcm[f"i16_input{name}"]))
        assert out.dtype == torch.int16 and out.tolist() == pcm[f"i16_pcm{name}"]
    for bits, dtype in ((16, torch.int16), (32, torch.int32)):
        out = f32_pcm(torch.tensor(pcm[f"f32_from_i{bits}_input"], dtype=dtype))
        assert out.tolist() == pytest.approx(pcm[f"f32_from_i{bits}"], abs=1e-9)


def test_audio_read(facts, golden):
    for case in facts["audio_read"]:
        wav, rate = audio_read(golden / "audio" / case["path"], case["seek_time"], case["duration"])
        assert rate == case["sample_rate"] and list(wav.shape) == case["shape"]
        assert wav.double().sum().item() == pytest.approx(case["sum"], rel=1e-4)
        assert wav.double().pow(2).sum().item() == pytest.approx(case["energy"], rel=1e-4)
        torch.testing.assert_close(wav[:, :4], torch.tensor(case["head"]), rtol=0, atol=1e-7)
