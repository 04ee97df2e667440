"""The multi-scale STFT discriminator on odd input; the peer's numbers are in parity/."""

import json

import pytest
import torch
from safetensors.torch import load_file

from audiocraft.adversarial import DiscriminatorSTFT, MultiScaleSTFTDiscriminator
from audiocraft.errors import UserError

SMALL = {"n_ffts": [64, 32], "hop_lengths": [16, 8], "win_lengths": [64, 32]}


@pytest.fixture(scope="module")
def signals(golden):
    return load_file(golden / "losses" / "io.safetensors")


@pytest.fixture(scope="module")
def facts(golden):
    return json.loads((golden / "losses" / "losses.json").read_text())


def test_a_fresh_weight_norm_starts_from_the_plain_weight():
    torch.manual_seed(0)
    normed = DiscriminatorSTFT(4)
    torch.manual_seed(0)
    plain = DiscriminatorSTFT(4, norm="none")
    x = torch.randn(1, 1, 4000)
    torch.testing.assert_close(normed(x)[0], plain(x)[0])


def test_filters_grow_up_to_the_maximum():
    model = DiscriminatorSTFT(4, filters_scale=2, max_filters=20, out_channels=3)
    logits, maps = model(torch.zeros(1, 1, 2048))
    assert [each.shape[1] for each in maps] == [4, 8, 16, 20, 20]
    assert logits.shape[1] == 3


@pytest.mark.parametrize("length", [1, 31, 64, 100])
def test_any_length_is_judged(length):
    model = MultiScaleSTFTDiscriminator(2, **SMALL)
    logits, _ = model(torch.randn(2, 1, length))
    assert [logit.shape[2] for logit in logits] == [1 + max(0, length - 64) // 16, 1 + max(0, length - 32) // 8]
    assert all(torch.isfinite(logit).all() for logit in logits)


def test_separate_channels_are_judged_each_by_itself():
    model = MultiScaleSTFTDiscriminator(2, in_channels=2, sep_channels=True, **SMALL)
    stereo = torch.randn(3, 2, 200)
    together, _ = model(stereo)
    alone, _ = model(stereo[:, 1:])
    for both, right in zip(together, alone):
        torch.testing.assert_close(both.view(3, 2, *both.shape[1:])[:, 1], right)


def test_stereo_is_one_image_of_four_planes():
    model = MultiScaleSTFTDiscriminator(2, in_channels=2, **SMALL)
    assert model.discriminators[0].convs[0].conv.weight.shape[1] == 4
    stereo = torch.randn(1, 2, 64)
    planes = model.discriminators[0].spec_transform(stereo)[0, :, 0]
    window = torch.hann_window(64)
    expected = torch.fft.rfft(stereo[0] * window) / window.norm()
    torch.testing.assert_close(planes, torch.cat([expected.real, expected.imag]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"norm": "batch"}, "msstftd.norm=batch"),
        ({"activation": "Leaky"}, "msstftd.activation=Leaky"),
        ({"activation": "functional"}, "msstftd.activation=functional"),
        ({"activation_params": {"slope": 1}}, "msstftd.activation_params"),
        ({"hop_lengths": [16]}, "hop_lengths"),
        ({"win_lengths": [128, 32]}, "msstftd.win_lengths"),
        ({"filters": 0}, "msstftd.filters"),
    ],
)
def test_bad_settings_name_their_key(options, key):
    with pytest.raises(UserError, match=key):
        MultiScaleSTFTDiscriminator(**{"filters": 2, **SMALL, **options})
