"""Golden set patterns.json: layouts, sequences, reverted codes and logits, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.modules.codebooks_patterns import (
    CoarseFirstPattern,
    DelayedPatternProvider,
    MusicLMPattern,
    ParallelPatternProvider,
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
