"""The language model's step as a graph gives torch's logits, for every kind of model that is served."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from audiocraft.errors import UserError
from audiocraft.models import LMModel
from audiocraft.models.loaders import load_lm_model
from audiocraft.onnx_player.export import _delays
from audiocraft.onnx_player.lm import lm_graph

from .conftest import make_lm, open_graph

KINDS = [
    {},
    {"norm_first": False},
    {"positional_embedding": "rope"},
    {"positional_embedding": "sin_rope", "positional_scale": 0.5, "max_period": 500},
    {"layer_scale": 0.3, "bias_ff": False, "bias_attn": False, "bias_proj": False},
    {"num_heads": 4, "kv_repeat": 2, "activation": "silu"},
    {"num_heads": 8, "positional_embedding": "rope"},  # heads narrower than the operator takes
    {"past_context": 5},
    {"qk_layer_norm": True, "activation": "gelu"},
    {"activation": "swiglu"},
    {"activation": "geglu", "hidden_scale": 2},
]


def stepwise(lm: LMModel, quantize: str, codes: torch.Tensor, path: Path, player_code, first: int = 1) -> np.ndarray:
    """Logits [B, S, K, card] of the graph after each step; the `first` steps are read at once."""
    step = player_code.generation.LanguageModel(open_graph(lm_graph(lm, quantize, 64), path / "lm.onnx"), {})
    cache = step.start(codes.shape[0], codes.shape[-1])
    logits = [step.read(cache, codes[..., :first].numpy()).copy()]
    for s in range(first, codes.shape[-1]):
        logits.append(step.read(cache, codes[..., s : s + 1].numpy()).copy())
    return np.stack(logits, 1)


def reference(lm: LMModel, codes: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return lm(codes, []).transpose(1, 2).numpy()


def codes_of(lm: LMModel, clips: int, steps: int) -> torch.Tensor:
    return torch.randint(0, lm.card + 1, (clips, lm.n_q, steps), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())) or "default")
def test_logits_equal_torch(kind: dict, tmp_path: Path, player_code):
    lm = make_lm(**kind)
    codes = codes_of(lm, 3, 20)
    expected = reference(lm, codes)
    np.testing.assert_allclose(stepwise(lm, "none", codes, tmp_path, player_code), expected, atol=2e-5)
    at_once = stepwise(lm, "none", codes, tmp_path, player_code, first=12)
    np.testing.assert_allclose(at_once, expected[:, 11:], atol=2e-5)


@pytest.mark.parametrize("name", ["lm_none", "lm_rope"])
def test_golden_models(name: str, golden: Path, tmp_path: Path, player_code):
    lm = load_lm_model(golden / name / "state_dict.bin")
    codes = codes_of(lm, 2, 16)
    np.testing.assert_allclose(
        stepwise(lm, "none", codes, tmp_path, player_code), reference(lm, codes), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["lm_none", "lm_rope"])
def test_golden_greedy_tokens(name: str, golden: Path, tmp_path: Path, player_code):
    """The tokens that the peer drew, each of them."""
    lm = load_lm_model(golden / name / "state_dict.bin")
    expected = load_file(golden / name / "io.safetensors")["gen_greedy"].numpy()
    clips, n_q, frames = expected.shape
    delays = _delays(lm)
    session = open_graph(lm_graph(lm, "none", frames + max(delays)), tmp_path / "lm.onnx")
    facts = {"n_q": n_q, "card": lm.card, "delays": delays, "window_frames": frames, "stride_frames": frames}
    generation = player_code.generation
    step, sampling = generation.LanguageModel(session, facts), generation.Sampling(greedy=True)
    drawn = list(generation.draw_codes(step, clips, frames, 0, sampling, generation.Clock()))
    np.testing.assert_array_equal(np.concatenate(drawn, -1), expected)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_int8_is_near(activation: str, tmp_path: Path, player_code):
    lm = make_lm(dim=256, activation=activation)
    codes = codes_of(lm, 3, 12)
    exact = torch.from_numpy(reference(lm, codes)).log_softmax(-1)
    near = torch.from_numpy(stepwise(lm, "int8", codes, tmp_path, player_code)).log_softmax(-1)
    divergence = (exact.exp() * (exact - near)).sum(-1)
    assert 0 < divergence.mean() < 2e-3


def test_int8_weights_do_not_saturate(tmp_path: Path, player_code):
    """Sums of two products beyond 16 bits, where signed weights go wrong on CPUs without VNNI."""
    lm = make_lm(dim=64, num_layers=1)
    with torch.no_grad():
        for linear in lm.linears:
            linear.weight.copy_(torch.where(torch.arange(64) % 4 < 2, 1.0, -1.0))
        lm.out_norm.weight.zero_()
        lm.out_norm.bias.copy_(lm.linears[0].weight[0])
    codes = codes_of(lm, 1, 2)
    np.testing.assert_allclose(stepwise(lm, "int8", codes, tmp_path, player_code), reference(lm, codes), rtol=1e-2)


def test_int8_clips_do_not_depend_on_their_batch(tmp_path: Path, player_code):
    lm = make_lm(dim=64)
    codes = codes_of(lm, 4, 8)
    together = stepwise(lm, "int8", codes, tmp_path, player_code)
    for i in range(4):
        alone = stepwise(lm, "int8", codes[i : i + 1], tmp_path, player_code)
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5)


def test_text_models_are_refused(golden: Path):
    lm = make_lm()
    lm.condition_provider.conditioners["description"] = torch.nn.Identity()
    with pytest.raises(UserError, match="without text"):
        lm_graph(lm, "none", 10)
