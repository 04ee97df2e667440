"""Five AdamW steps of the reference: losses, gradients and weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import nn

from audiocraft.models.builders import get_lm_model
from audiocraft.models.lm import LMModel
from audiocraft.solvers.builders import get_optim_parameter_groups, get_optimizer
from audiocraft.solvers.musicgen import compute_cross_entropy


@pytest.fixture
def model(golden: Path) -> LMModel:
    package = torch.load(golden / "lm_none/state_dict.bin", weights_only=True)
    cfg: Any = OmegaConf.create(package["xp.cfg"])
    cfg.device = "cpu"
    model = get_lm_model(cfg)
    model.load_state_dict(package["best_state"])
    return model


@pytest.fixture
def facts(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "train_step/train.json").read_text())


@pytest.fixture
def batch(golden: Path) -> dict[str, torch.Tensor]:
    return load_file(golden / "train_step/batch.safetensors")


def check_parameters(model: nn.Module, expected: dict[str, Any], indexes: dict[str, list[int]]) -> None:
    parameters = dict(model.named_parameters())
    assert parameters.keys() == expected.keys()
    for name, value in parameters.items():
        assert value.norm().item() == pytest.approx(expected[name]["norm"], abs=5e-5)
        assert value.flatten()[indexes[name]].tolist() == pytest.approx(expected[name]["samples"], abs=4e-6)


def test_five_steps(model: LMModel, facts: dict[str, Any], batch: dict[str, torch.Tensor]) -> None:
    settings = facts["optimizer"]
    node = {"betas": settings["betas"], "weight_decay": settings["weight_decay"], "eps": settings["eps"]}
    optimizer = get_optimizer(model, OmegaConf.create({"optimizer": "adamw", "lr": settings["lr"], "adam": node}))
    check_parameters(model, facts["initial"], facts["sample_indexes"])
    model.train()
    for step in facts["steps"]:
        output = model.compute_predictions(batch["codes"], [])
        assert output.mask.sum((0, 2)).tolist() == [3 * n for n in facts["valid_positions_per_codebook"]]
        ce, per_codebook = compute_cross_entropy(output.logits, batch["codes"], output.mask)
        assert ce.item() == pytest.approx(step["ce"], abs=1e-5)
        assert ce.exp().item() == pytest.approx(step["ppl"], abs=3e-3)
        for k, value in enumerate(per_codebook, start=1):
            assert value.item() == pytest.approx(step[f"ce_q{k}"], abs=1e-5)
            assert value.exp().item() == pytest.approx(step[f"ppl_q{k}"], abs=3e-3)
        optimizer.zero_grad()
        ce.backward()
        if step["step"] == 1:
            for name, value in model.named_parameters():
                assert value.grad is not None
                assert value.grad.norm().item() == pytest.approx(facts["first_grad_norms"][name], abs=2e-6)
        norm = nn.utils.clip_grad_norm_(model.parameters(), settings["max_norm"])
        assert norm.item() == pytest.approx(step["grad_norm"], abs=6e-6)
        optimizer.step()
        if str(step["step"]) in facts["after"]:
            check_parameters(model, facts["after"][str(step["step"])], facts["sample_indexes"])


def test_padding(model: LMModel, facts: dict[str, Any], batch: dict[str, torch.Tensor]) -> None:
    model.eval()
    codes = batch["padded_codes"]
    with torch.no_grad():
        output = model.compute_predictions(codes, [])
    ce, per_codebook = compute_cross_entropy(output.logits, codes, output.mask & batch["padding_mask"])
    assert ce.item() == pytest.approx(facts["padded"]["ce"], abs=1e-5)
    assert [value.item() for value in per_codebook] == pytest.approx(facts["padded"]["ce_q"], abs=1e-5)


def test_parameter_groups(model: LMModel, facts: dict[str, Any]) -> None:
    assert [len(group["params"]) for group in get_optim_parameter_groups(model)] == facts["param_groups"]
