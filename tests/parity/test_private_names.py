"""Names with an underscore that the peer's own tests call: ours do what those expect."""

import numpy as np
import pytest
import soundfile
import torch

from audiocraft.data.audio import _av_read
from audiocraft.data.audio_dataset import AudioMeta, _get_audio_meta
from audiocraft.data.audio_utils import _clip_wav, convert_audio_channels, normalize_audio
from audiocraft.errors import UserError


def test_the_reader_that_the_peers_tests_call(tmp_path):
    """Whole, a stretch, one that runs over the end, the last sample, and none."""
    for channels, frames in ((1, 1000), (2, 1001), (1, 1002)):
        path = str(tmp_path / f"{frames}.wav")
        wav = 0.1 * torch.randn(channels, frames)
        soundfile.write(path, wav.T.numpy(), 8000, subtype="FLOAT")
        last = (frames - 1) / 8000
        for given, start, stop in (
            ((), 0, frames),
            ((0.02, 0.04), 160, 480),
            ((0.08, 9.0), 640, frames),
            ((last, 1.0), int(last * 8000), frames),
            ((1.0, 1.0), frames, frames),
        ):
            read, rate = _av_read(path, *given)
            assert rate == 8000
            torch.testing.assert_close(read, wav[:, start:stop])


def test_channels_that_cannot_be_made() -> None:
    for error in (UserError, ValueError):
        with pytest.raises(error, match="2 channels cannot become 3"):
            convert_audio_channels(torch.ones(4, 2, 9), channels=3)


def test_clipping_in_place_as_the_peers_tests_call_it() -> None:
    wav = torch.tensor([[[-3.0, 0.5, 2.0]]])
    _clip_wav(wav)
    assert wav.tolist() == [[[-1, 0.5, 1]]]
    wav = torch.tensor([[0.1, 40.0]])
    assert normalize_audio(wav, strategy="rms", rms_headroom_db=0).max() == 1 and wav.max() == 40


def test_one_file_s_record_as_the_peers_tests_ask_for_it(tmp_path) -> None:
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.full((800, 2), 0.5), 8000)
    assert _get_audio_meta(path) == AudioMeta(path, 0.1, 8000)
    assert _get_audio_meta(path, minimal=False).amplitude == pytest.approx(0.5, abs=1e-4)
    with pytest.raises(UserError, match="there is no such file"):
        _get_audio_meta(path + "x")
