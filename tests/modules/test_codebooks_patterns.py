"""Patterns there and back again; the peer's numbers are in parity/."""

import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.modules.codebooks_patterns import (
    CoarseFirstPattern,
    DelayedPatternProvider,
    LayoutCoord,
    MusicLMPattern,
    ParallelPatternProvider,
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


PROVIDERS = [
    DelayedPatternProvider(3),
    DelayedPatternProvider(3, [0, 5, 5]),
    DelayedPatternProvider(3, flatten_first=2),
    ParallelPatternProvider(3),
    UnrolledPatternProvider(3),
    UnrolledPatternProvider(3, [0, 1, 1], [0, 5, 5]),
    CoarseFirstPattern(3),
    MusicLMPattern(3, 3),
]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("valid", [False, True])
def test_a_pattern_of_no_frames(provider, valid):
    pattern = provider.get_pattern(0)
    assert pattern.timesteps == 0 and pattern.starts_with_special_token()
    values, _, mask = pattern.build_pattern_sequence(torch.zeros(2, 3, 0, dtype=torch.long), SPECIAL, valid)
    assert (values == SPECIAL).all() and not mask.any()
    assert values.shape == (2, 3, len(pattern.valid_layout if valid else pattern.layout))
    assert pattern.revert_pattern_sequence(values, SPECIAL, valid)[0].shape == (2, 3, 0)
    logits = torch.randn(2, 7, *values.shape[1:])
    assert pattern.revert_pattern_logits(logits, float("nan"), valid)[0].shape == (2, 7, 3, 0)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_part_of_the_frames_or_of_the_steps(provider):
    """What is not there is the special token; what is there is where it is in the whole."""
    codes = torch.randint(0, 100, (2, 3, 9))
    pattern = provider.get_pattern(9)
    whole, _, _ = pattern.build_pattern_sequence(codes, SPECIAL)
    part, indexes, mask = pattern.build_pattern_sequence(codes[..., :5], SPECIAL)
    assert torch.equal(part, torch.where(pattern.frame_of < 5, whole, SPECIAL))
    assert indexes.max() == 3 * 5 and torch.equal(mask, (pattern.frame_of >= 0) & (pattern.frame_of < 5))
    back, _, mask = pattern.revert_pattern_sequence(whole[..., :6], SPECIAL)
    assert torch.equal(mask, pattern.step_of < 6)
    assert torch.equal(back, torch.where(mask, codes, SPECIAL))
    logits = torch.randn(2, 4, *whole.shape[1:])
    back, _, mask = pattern.revert_pattern_logits(logits[..., :6], 0.0)
    assert torch.equal(mask, pattern.step_of < 7)
    assert torch.equal(back, torch.where(mask, pattern.revert_pattern_logits(logits, 0.0)[0], 0.0))


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
    for n_q, frames in ((2, 6), (1, 5), (3, 5), (0, 5)):
        with pytest.raises(UserError, match="codes"):
            pattern.build_pattern_sequence(torch.zeros(1, n_q, frames, dtype=torch.long), SPECIAL)
    for n_q, steps in ((2, 8), (1, 7), (3, 7)):
        with pytest.raises(UserError, match="steps"):
            pattern.revert_pattern_sequence(torch.zeros(1, n_q, steps, dtype=torch.long), SPECIAL)
        with pytest.raises(UserError, match="steps"):
            pattern.revert_pattern_logits(torch.zeros(1, 9, n_q, steps), SPECIAL)
    with pytest.raises(ValueError, match="0 frames"):
        DelayedPatternProvider(2).get_pattern(-1)
    with pytest.raises(ValueError, match="frame"):
        pattern.get_first_step_with_timesteps(9)
