import math

import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.quantization import DummyQuantizer, ResidualVectorQuantizer


def quantizer(**kwargs) -> ResidualVectorQuantizer:
    torch.manual_seed(0)
    return ResidualVectorQuantizer(**{"dimension": 8, "n_q": 4, "bins": 16, "kmeans_init": False, **kwargs})


def test_forward_encode_decode_agree() -> None:
    rvq = quantizer().eval()
    x = torch.randn(2, 8, 11)
    result = rvq(x, 50)
    codes = rvq.encode(x)
    assert codes.shape == (2, 4, 11) and codes.dtype == torch.int64
    assert torch.equal(result.codes, codes)
    torch.testing.assert_close(rvq.decode(codes), result.x)
    assert float(result.bandwidth) == pytest.approx(4 * math.log2(16) * 50 / 1000)
    assert float(result.penalty) == 0
    assert rvq.encode(x[..., :0]).shape == (2, 4, 0)


def test_gradient_passes_straight_through_once() -> None:
    rvq = quantizer().train()
    x = torch.randn(2, 8, 11, requires_grad=True)
    result = rvq(x, 50)
    (result.x * torch.arange(11.0)).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.arange(11.0).expand(2, 8, 11).contiguous())


def test_penalty_and_metrics_in_training() -> None:
    rvq = quantizer(kmeans_init=True, threshold_ema_dead_code="auto").train()
    x = torch.randn(2, 8, 100, requires_grad=True)
    result = rvq(x, 50)
    assert result.penalty.item() > 0 and set(result.metrics) == {"used", "dead"}
    assert 1 < result.metrics["used"] <= 16
    result.penalty.backward()
    assert x.grad is not None and x.grad.abs().max() > 0


def test_number_of_codebooks() -> None:
    rvq = quantizer().eval()
    x = torch.randn(2, 8, 11)
    codes = rvq.encode(x)
    rvq.set_num_codebooks(2)
    assert rvq.num_codebooks == 2 and rvq.total_codebooks == 4
    assert torch.equal(rvq.encode(x), codes[:, :2])
    assert rvq(x, 50).codes.shape == (2, 2, 11)
    for n in (0, 5):
        with pytest.raises(UserError, match="choose 1 to 4"):
            rvq.set_num_codebooks(n)


def test_dropout_trains_with_every_number_of_codebooks() -> None:
    rvq = quantizer(q_dropout=True).train()
    x = torch.randn(1, 8, 3)
    results = [rvq(x, 50) for _ in range(40)]
    assert {r.codes.shape[1] for r in results} == {1, 2, 3, 4}
    assert all(float(r.bandwidth) == pytest.approx(r.codes.shape[1] * 4 * 50 / 1000) for r in results)
    rvq.eval()
    assert rvq(x, 50).codes.shape[1] == 4


def test_codes_do_not_hang_on_autocast() -> None:
    rvq = quantizer(bins=256).eval()
    x = torch.randn(2, 8, 200)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rvq.encode(x), rvq(x, 50).codes)
        inside = rvq.encode(x)
    assert torch.equal(inside, rvq.encode(x))


@pytest.mark.parametrize(
    "codes",
    [
        torch.zeros(2, 3, dtype=torch.long),
        torch.zeros(1, 5, 3, dtype=torch.long),
        torch.zeros(1, 4, 0, dtype=torch.long),
        torch.full((1, 4, 3), 16),
        torch.full((1, 4, 3), -1),
    ],
)
def test_codes_of_another_codec_are_refused(codes: torch.Tensor) -> None:
    with pytest.raises(UserError):
        quantizer().check_codes(codes)


def test_settings_that_make_no_codec() -> None:
    for wrong in ({"n_q": 0}, {"bins": 1}, {"threshold_ema_dead_code": "often"}):
        with pytest.raises(UserError):
            quantizer(**wrong)


def test_no_quantizer_keeps_the_latents() -> None:
    none = DummyQuantizer()
    x = torch.randn(2, 8, 11)
    result = none(x, 50)
    assert torch.equal(result.x, x) and torch.equal(none.decode(none.encode(x)), x)
    assert float(result.bandwidth) == pytest.approx(8 * 32 * 50 / 1000)
    none.check_codes(result.codes)
    with pytest.raises(UserError):
        none.check_codes(torch.zeros(2, 4, 11))
    none.set_num_codebooks(1)
    with pytest.raises(UserError):
        none.set_num_codebooks(2)
