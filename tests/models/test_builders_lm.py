"""Language models from configs: what is tolerated and what is refused."""

from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from audiocraft.errors import UserError
from audiocraft.models import builders
from audiocraft.modules.codebooks_patterns import MusicLMPattern, ParallelPatternProvider, UnrolledPatternProvider


@pytest.fixture
def cfg(golden: Path) -> DictConfig:
    """The config inside a small checkpoint of the peer."""
    return OmegaConf.create(torch.load(golden / "lm_none" / "state_dict.bin", weights_only=True)["xp.cfg"])


@pytest.mark.parametrize("none", [None, {}, "absent"])
def test_ways_to_say_no_conditions(cfg: DictConfig, none):
    cfg.conditioners = none
    if none == "absent":
        for node in ("conditioners", "fuser", "attribute_dropout", "classifier_free_guidance"):
            del cfg[node]
    lm = builders.get_lm_model(cfg).eval()
    assert len(lm.condition_provider.conditioners) == 0
    assert lm.generate(max_gen_len=3).shape == (1, 4, 3)


@pytest.mark.parametrize("key", ["custom", "memory_efficient", "attention_as_float32"])
@pytest.mark.parametrize("value", [True, False])
def test_switches_between_the_peers_implementations_are_tolerated(cfg: DictConfig, key: str, value: bool):
    cfg.transformer_lm[key] = value
    assert builders.get_lm_model(cfg).num_codebooks == 4


@pytest.mark.parametrize("value", ["torch", "xformers_default", "xformers_mm"])
def test_ways_to_recompute(cfg: DictConfig, value: str):
    cfg.transformer_lm.checkpointing = value
    assert builders.get_lm_model(cfg).transformer.checkpointing


def test_patterns(cfg: DictConfig):
    for modeling, kind in (
        ("parallel", ParallelPatternProvider),
        ("unroll", UnrolledPatternProvider),
        ("music_lm", MusicLMPattern),
        ("musiclm", MusicLMPattern),
    ):
        cfg.codebooks_pattern.modeling = modeling
        assert isinstance(builders.get_lm_model(cfg).pattern_provider, kind)
    cfg.codebooks_pattern.music_lm.group_by = 4
    assert builders.get_codebooks_pattern_provider(4, cfg.codebooks_pattern).group_by == 4
    # The peer's first checkpoints.
    del cfg.codebooks_pattern
    cfg.transformer_lm.q_modeling = "delay"
    assert builders.get_lm_model(cfg).pattern_provider.delays == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "change, told",
    [
        ({"lm_model": "transformer_lm_magnet"}, "transformer_lm"),
        ({"transformer_lm": {"xpos": True}}, "xpos"),
        ({"transformer_lm": {"causal": False}}, "causal"),
        ({"transformer_lm": {"wings": 2}}, "wings"),
        ({"transformer_lm": {"num_heads": 7}}, "num_heads"),
        ({"codebooks_pattern": {"modeling": "zigzag"}}, "zigzag"),
        ({"codebooks_pattern": {"delay": {"delays": [0, 1]}}}, "delays"),
        ({"codebooks_pattern": {"delay": {"wings": 1}}}, "wings"),
        ({"codebooks_pattern": {"modeling": None}}, "modeling"),
        ({"conditioners": {"self_wav": {"model": "chroma_stem"}}}, "chroma_stem"),
        ({"conditioners": {"description": {"model": "t5", "t5": {"name": "t5-small"}}}}, "fuser"),
        ({"conditioners": {"a": {"model": "t5", "t5": {"name": "t5-small", "finetune": True}}}}, "finetune"),
        ({"fuser": {"input_interpolate": ["a"]}}, "input_interpolate"),
        ({"transformer_lm": {"cross_attention": True}}, "has no condition to look at"),
        ({"transformer_lm": {"device": "cpu"}}, r"unknown key 'transformer_lm\.device'"),
    ],
)
def test_values_that_are_not_served(cfg: DictConfig, change: dict, told: str):
    with pytest.raises(UserError, match=told):
        builders.get_lm_model(OmegaConf.merge(cfg, change))


def test_a_single_condition_may_be_named_without_a_list(cfg: DictConfig):
    assert builders.get_condition_fuser(OmegaConf.create({"fuser": {"cross": "description"}})).fuse2cond == {
        "sum": [],
        "prepend": [],
        "cross": ["description"],
    }


def test_a_missing_model_is_not_called_a_codec(cfg: DictConfig):
    cfg.transformer_lm = None
    with pytest.raises(UserError, match=r"which its language model needs; start from solver=musicgen/default"):
        builders.get_lm_model(cfg)


def test_guidance_and_dropout_reach_the_model(cfg: DictConfig):
    cfg.classifier_free_guidance = {"training_dropout": 0.4, "inference_coef": 2.5}
    cfg.attribute_dropout = {"args": {"active_on_eval": False}, "text": {"description": 0.2}}
    lm = builders.get_lm_model(cfg)
    assert lm.cfg_dropout.p == 0.4 and lm.cfg_coef == 2.5
    assert lm.att_dropout.p == {"text": {"description": 0.2}}
