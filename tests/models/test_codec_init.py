"""First weights from the codec: distances of its vectors, and otherwise the weights of any start."""

import pytest
import torch
from omegaconf import OmegaConf

from audiocraft.errors import UserError
from audiocraft.models import builders
from audiocraft.models.codec_init import get_codebooks, init_from_codebooks
from audiocraft.models.lm import LMModel
from audiocraft.quantization import DummyQuantizer


def tiny_lm(dim: int = 512) -> LMModel:
    torch.manual_seed(0)
    cfg = {
        "lm_model": "transformer_lm",
        "transformer_lm": {
            "dim": dim,
            "num_heads": 2,
            "num_layers": 1,
            "n_q": 4,
            "card": 400,
            "weight_init": "gaussian",
            "causal": True,
        },
        "codebooks_pattern": {"modeling": "delay"},
    }
    return builders.get_lm_model(OmegaConf.create(cfg))


def codebooks() -> torch.Tensor:
    """[4, 400, 32]: clusters of eight codes that lie close together, far from the origin."""
    torch.manual_seed(1)
    centres = 5 * torch.randn(4, 50, 1, 32)
    return (centres + 0.1 * torch.randn(4, 50, 8, 32)).flatten(1, 2) + 3


def cosine(rows: torch.Tensor) -> torch.Tensor:
    rows = torch.nn.functional.normalize(rows, dim=1)
    return rows @ rows.T


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_codes_that_are_close_start_close(share: float) -> None:
    lm = tiny_lm()
    vectors = codebooks()
    init_from_codebooks(lm, vectors, share)
    same = torch.block_diag(*[torch.ones(8, 8)] * 50).bool() & ~torch.eye(400).bool()
    for k in range(4):
        for layer in (lm.emb[k], lm.linears[k]):
            near = cosine(layer.weight[:400].detach())
            assert near[same].mean() == pytest.approx(share, abs=0.05)
            # Elsewhere the angles are those of the centred codebook.
            wanted = share * cosine(vectors[k] - vectors[k].mean(0))
            assert torch.corrcoef(torch.stack([near[~same], wanted[~same]]))[0, 1] > 0.8


def test_scales_and_the_special_token_stay() -> None:
    plain, lm = tiny_lm(), tiny_lm()
    init_from_codebooks(lm, 1000 * codebooks(), 0.8)
    for k in range(4):
        assert torch.equal(lm.emb[k].weight[400], plain.emb[k].weight[400])
        for new, old in ((lm.emb[k], plain.emb[k]), (lm.linears[k], plain.linears[k])):
            assert float(new.weight.detach().std()) == pytest.approx(float(old.weight.detach().std()), rel=0.05)
    assert torch.equal(lm.transformer.layers[0].linear1.weight, plain.transformer.layers[0].linear1.weight)
    # Codebooks, and embeddings and heads, share no directions.
    first, second, head = lm.emb[0].weight[:400], lm.emb[1].weight[:400], lm.linears[0].weight
    for other in (second, head):
        assert (first * other).sum(1).abs().mean() < 0.2 * first.square().sum(1).mean()


def test_nothing_of_it_changes_nothing() -> None:
    plain, lm = tiny_lm(16), tiny_lm(16)
    init_from_codebooks(lm, codebooks(), 0.0)
    assert all(torch.equal(a, b) for a, b in zip(lm.parameters(), plain.parameters()))


def test_codebooks_of_a_codec() -> None:
    codec = builders.get_debug_compression_model()
    assert get_codebooks(codec).shape == (4, 400, 32)
    codec.set_num_codebooks(2)
    with pytest.raises(UserError, match=r"2 codebooks of 400 codes, the model 4 of 400.*init_from_codec=0"):
        init_from_codebooks(tiny_lm(16), get_codebooks(codec), 0.5)
    with pytest.raises(UserError, match="from 0 to 1"):
        init_from_codebooks(tiny_lm(16), codebooks(), 1.5)
    codec.quantizer = DummyQuantizer()
    with pytest.raises(UserError, match="init_from_codec=0"):
        get_codebooks(codec)
