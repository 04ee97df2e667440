"""Patterns against the peer's numbers, and there and back again."""

import json
from pathlib import Path

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

PROVIDERS = {
    "delay": DelayedPatternProvider,
    "parallel": ParallelPatternProvider,
    "unroll": UnrolledPatternProvider,
    "coarse_first": CoarseFirstPattern,
    "musiclm": MusicLMPattern,
}
SPECIAL = 999


def as_float(rows):
    """Nested lists with None for NaN."""
    return torch.tensor([[float("nan") if x is None else float(x) for x in row] for row in rows])


def test_golden_patterns(golden: Path):
    cases = json.loads((golden / "patterns.json").read_text())["cases"]
    assert len(cases) == 63
    for case in cases:
        n_q, timesteps = case["n_q"], case["timesteps"]
        pattern = PROVIDERS[case["provider"]](n_q, **case["args"]).get_pattern(timesteps)
        assert [[list(c) for c in step] for step in pattern.layout] == case["layout"], case["args"]
        assert pattern.num_sequence_steps == case["num_sequence_steps"]
        assert pattern.max_delay == case["max_delay"]
        assert len(pattern.valid_layout) == case["valid_steps"]
        assert pattern.starts_with_special_token() == case["starts_with_special_token"]
        firsts = [pattern.get_first_step_with_timesteps(t) for t in range(timesteps)]
        assert firsts == case["first_step_with_timestep"]
        codes = torch.arange(n_q * timesteps).view(1, n_q, timesteps)
        for run in case["runs"]:
            valid = run["keep_only_valid_steps"]
            values, indexes, mask = pattern.build_pattern_sequence(codes, SPECIAL, valid)
            assert values[0].tolist() == run["values"]
            assert indexes.tolist() == run["indexes"]
            assert mask.int().tolist() == run["mask"]
            back, indexes, mask = pattern.revert_pattern_sequence(values, SPECIAL, valid)
            assert back[0].tolist() == run["reverted"]
            assert indexes.tolist() == run["reverted_indexes"]
            assert mask.int().tolist() == run["reverted_mask"]
            steps = values.shape[-1]
            logits = torch.arange(n_q * steps, dtype=torch.float32).view(1, 1, n_q, steps)
            back, indexes, mask = pattern.revert_pattern_logits(logits, float("nan"), valid)
            torch.testing.assert_close(back[0, 0], as_float(run["logits_reverted"]), rtol=0, atol=0, equal_nan=True)
            assert indexes.tolist() == run["logits_indexes"]
            assert mask.int().tolist() == run["logits_mask"]


def test_golden_refusals(golden: Path):
    failures = json.loads((golden / "patterns.json").read_text())["failures"]
    assert len(failures) == 15
    for case in failures:
        with pytest.raises(UserError, match=r"codebooks_pattern\.|unroll\."):
            PROVIDERS[case["provider"]](case["n_q"], **case["args"]).get_pattern(case["timesteps"])


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
