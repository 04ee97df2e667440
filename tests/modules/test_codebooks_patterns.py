"""Patterns there and back again; the peer's numbers are in parity/."""

import pytest
import torch

from audiocraft.modules.codebooks_patterns import (
    DelayedPatternProvider,
    LayoutCoord,
    MusicLMPattern,
    Pattern,
    UnrolledPatternProvider,
)

SPECIAL = 999


@pytest.mark.parametrize(
    "provider", [DelayedPatternProvider(4, [0, 2, 3, 5]), UnrolledPatternProvider(4), MusicLMPattern(4)]
)
def test_there_and_back(provider):
    codes = torch.randint(0, 100, (3, 4, 17))
    pattern = provider.get_pattern(17)
    values, _, _ = pattern.build_pattern_sequence(codes, SPECIAL)
    back, _, mask = pattern.revert_pattern_sequence(values, SPECIAL)
    assert mask.all()
    assert torch.equal(back, codes)


def test_patterns_are_made_once():
    provider = DelayedPatternProvider(4)
    assert provider.get_pattern(50) is provider.get_pattern(50)
    assert provider.get_pattern(50).timesteps == 50


def test_lookups_are_kept():
    pattern = DelayedPatternProvider(4).get_pattern(9)
    first = pattern.reverted_indexes(12, is_model_output=True, device="cpu")
    assert pattern.reverted_indexes(12, is_model_output=True, device=torch.device("cpu")) is first
    assert all(lookup.device.type == "meta" for lookup in pattern.reverted_indexes(12, True, True, "meta"))
    assert not torch.equal(pattern.reverted_indexes(12)[0], first[0])


def test_lookups_made_in_inference_mode_serve_training():
    pattern = DelayedPatternProvider(4).get_pattern(9)
    logits = torch.randn(1, 3, 4, 13, requires_grad=True)
    with torch.inference_mode():
        pattern.revert_pattern_logits(logits, 0.0)
    values, _, _ = pattern.revert_pattern_logits(logits, 0.0)
    values.sum().backward()
    assert logits.grad is not None


def test_bad_patterns_and_shapes_are_refused():
    with pytest.raises(ValueError, match="twice"):
        Pattern([[], [LayoutCoord(0, 0), LayoutCoord(1, 0)]], timesteps=2, n_q=1)
    with pytest.raises(ValueError, match="goes back"):
        Pattern([[], [LayoutCoord(1, 0)], [LayoutCoord(0, 0)]], timesteps=2, n_q=1)
    pattern = DelayedPatternProvider(2).get_pattern(5)
    with pytest.raises(ValueError, match="codes"):
        pattern.build_pattern_sequence(torch.zeros(1, 2, 4, dtype=torch.long), SPECIAL)
    with pytest.raises(ValueError, match="steps"):
        pattern.revert_pattern_sequence(torch.zeros(1, 2, 5, dtype=torch.long), SPECIAL)
    with pytest.raises(ValueError, match="frame"):
        pattern.get_first_step_with_timesteps(9)
