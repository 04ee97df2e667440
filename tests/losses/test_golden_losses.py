"""Values and gradients of the losses against the reference's numbers."""

import json

import pytest
import torch
from safetensors.torch import load_file

from audiocraft.losses import (
    SISNR,
    MelSpectrogramL1Loss,
    MelSpectrogramWrapper,
    MRSTFTLoss,
    MultiScaleMelSpectrogramLoss,
    STFTLoss,
)

# name -> (class, absolute tolerance on [value, gradient norm] as measured on the reference)
CASES = {
    "l1": (torch.nn.L1Loss, 2e-7),
    "l2": (torch.nn.MSELoss, 5e-8),
    "mel": (MelSpectrogramL1Loss, 7e-7),
    "mel_linear": (MelSpectrogramL1Loss, 4e-7),
    "msspec": (MultiScaleMelSpectrogramLoss, 5e-7),
    "msspec_alphas": (MultiScaleMelSpectrogramLoss, 9e-5),
    "mrstft": (MRSTFTLoss, 3e-5),
    "mrstft_default": (MRSTFTLoss, 6e-6),
    "stft": (STFTLoss, 5e-5),
    "sisnr": (SISNR, 6e-4),
    "sisnr_short": (SISNR, 3e-5),
    "sisnr_no_overlap": (SISNR, 1e-5),
}


@pytest.fixture(scope="module")
def signals(golden):
    return load_file(golden / "losses" / "io.safetensors")


@pytest.fixture(scope="module")
def facts(golden):
    return json.loads((golden / "losses" / "losses.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name, signals, facts):
    loss_class, tolerance = CASES[name]
    expected = facts["losses"][name]
    y_pred = signals["y_pred"].clone().requires_grad_()
    value = loss_class(**expected["args"])(y_pred, signals["y"])
    value.backward()
    assert value.shape == ()
    assert value.item() == pytest.approx(expected["value"], abs=tolerance)
    assert y_pred.grad.norm().item() == pytest.approx(expected["grad_norm"], abs=tolerance)


def test_mel_spectrograms(signals, facts):
    args = dict(facts["losses"]["mel"]["args"])
    ours = MelSpectrogramWrapper(**args)(signals["y"])
    torch.testing.assert_close(ours, signals["mel_spec"], atol=2e-6, rtol=0)
    small = MelSpectrogramWrapper(64, 16, 64, 64, 32000, 64, None, True, True)
    torch.testing.assert_close(small(signals["y"]), signals["mel_spec_64"], atol=2e-6, rtol=0)
    assert int((small.filters.sum(1) == 0).sum()) == facts["mel_empty_filters_n_fft_64"]
