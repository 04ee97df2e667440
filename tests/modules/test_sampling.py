"""Filters against the peer's numbers; drawing by inversion."""

import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.modules.sampling import (
    SamplingParams,
    choose,
    clip_uniforms,
    draw,
    filter_top_k,
    filter_top_p,
    penalise_recent,
)
from audiocraft.utils.takes import RECENT


def test_filters_that_keep_everything():
    probs = torch.softmax(torch.randn(5, 20), -1)
    torch.testing.assert_close(filter_top_k(probs, 20), probs)
    torch.testing.assert_close(filter_top_k(probs, 99), probs)
    torch.testing.assert_close(filter_top_p(probs, 1.0), probs)


def test_draw_inverts_the_distribution():
    probs = torch.tensor([0.25, 0.0, 0.5, 0.25, 0.0])
    uniforms = torch.tensor([0.0, 0.2499, 0.25, 0.74, 0.75, 1 - 2**-24])
    assert draw(probs.expand(6, 5), uniforms).tolist() == [0, 0, 2, 2, 3, 3]
    # A grid of uniform numbers meets every token as often as it is likely.
    probs = torch.softmax(torch.randn(16, generator=torch.Generator().manual_seed(1)), 0)
    grid = (torch.arange(10000) + 0.5) / 10000
    counts = torch.bincount(draw(probs.expand(10000, 16), grid), minlength=16) / 10000
    torch.testing.assert_close(counts, probs, rtol=0, atol=2e-4)


def test_draw_never_takes_an_impossible_token():
    top = torch.full((400, 2048), 1e-3)
    top[:, 1500:] = 0.0
    uniforms = torch.full((400,), 1 - 2**-24)
    assert (draw(top, uniforms) == 1499).all()


def test_choose_is_greedy_without_sampling_or_temperature():
    logits = torch.randn(3, 4, 30)
    for params in (SamplingParams(use_sampling=False), SamplingParams(temp=0.0), SamplingParams(top_k=1)):
        assert torch.equal(choose(logits, torch.rand(3, 4), params), logits.argmax(-1))


@pytest.mark.parametrize("temp", [1e-20, 1e-39, 1e-300])
def test_tiny_temperatures_take_the_likeliest(temp):
    logits = 20 * torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
    uniforms = torch.rand(50, generator=torch.Generator().manual_seed(1))
    for filters in ({"top_k": 0}, {"top_k": 5}, {"top_p": 0.9}):
        assert torch.equal(choose(logits, uniforms, SamplingParams(temp=temp, **filters)), logits.argmax(-1))


def test_choose_filters():
    logits = torch.randn(1000, 30, generator=torch.Generator().manual_seed(0))
    uniforms = torch.rand(1000, generator=torch.Generator().manual_seed(1))
    ranks = logits.argsort(-1, descending=True).argsort(-1)
    chosen = choose(logits, uniforms, SamplingParams(top_k=5))
    assert ranks.gather(1, chosen[:, None]).max() == 4
    chosen = choose(logits, uniforms, SamplingParams(top_k=1, top_p=0.9))  # top_p rules out top_k
    assert ranks.gather(1, chosen[:, None]).max() > 4


def grid(count: int) -> torch.Tensor:
    """Uniform numbers that meet every token as often as it is likely."""
    return (torch.arange(count) + 0.5) / count


@pytest.mark.parametrize("temp", [0.7, 1.0, 2.5])
def test_min_p_keeps_what_comes_near_the_likeliest(temp: float) -> None:
    """At any temperature, and in the proportions of the distribution itself."""
    logits = 2 * torch.randn(20, generator=torch.Generator().manual_seed(0))
    probs = torch.softmax(logits / temp, -1)
    expected = probs * (probs >= 0.1 * probs.max())
    assert 1 < (expected > 0).sum() < 20
    params = SamplingParams(temp=temp, top_k=0, min_p=0.1)
    drawn = choose(logits.expand(20000, 20), grid(20000), params)
    counts = torch.bincount(drawn, minlength=20) / 20000
    torch.testing.assert_close(counts, expected / expected.sum(), rtol=0, atol=2e-4)
    assert (choose(logits.expand(9, 20), grid(9), SamplingParams(min_p=1.0)) == logits.argmax()).all()


def test_min_p_and_the_other_filters_keep_what_all_of_them_keep() -> None:
    logits = torch.tensor([0.4, 0.25, 0.15, 0.12, 0.05, 0.03]).log()

    def kept(**filters: float) -> list[int]:
        drawn = choose(logits.expand(1000, 6), grid(1000), SamplingParams(**{"top_k": 0, **filters}))  # type: ignore[arg-type]
        return drawn.unique().tolist()

    assert kept(min_p=0.3) == [0, 1, 2, 3] and kept(top_p=0.5) == [0, 1] and kept(top_k=3) == [0, 1, 2]
    assert kept(min_p=0.3, top_k=3) == kept(min_p=0.35, top_k=5) == [0, 1, 2]
    # Of what min_p leaves, three reach 0.81; the whole distribution is what is looked at.
    assert kept(min_p=0.3, top_p=0.79) == kept(top_p=0.79) == [0, 1, 2]
    assert kept(min_p=0.5, top_p=0.99) == [0, 1]


def test_later_codebooks_are_cooler() -> None:
    logits = torch.randn(500, 4, 30, generator=torch.Generator().manual_seed(0))
    uniforms = torch.rand(500, 4, generator=torch.Generator().manual_seed(1))
    cool = choose(logits, uniforms, SamplingParams(temp=1.5, cool=0.6, top_k=0))
    for k in range(4):
        alone = choose(logits[:, k], uniforms[:, k], SamplingParams(temp=1.5 * 0.6**k, top_k=0))
        assert torch.equal(cool[:, k], alone)
    assert torch.equal(choose(logits, uniforms, SamplingParams(cool=1e-9))[:, 1:], logits.argmax(-1)[:, 1:])


def test_recent_codes_lose_their_share() -> None:
    logits = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    sequence = torch.full((2, 3, 80), -1)
    sequence[..., 0] = 6  # the special token
    sequence[0, 0, 1:70] = torch.tensor([5] * 19 + [2] * 40 + [4] * 10)
    sequence[1, 0, 1:70] = 3
    sequence[:, 1:, 1:70] = 1  # of other codebooks: not looked at
    late = penalise_recent(logits, sequence, torch.tensor([70]), 2.0)
    expected = torch.zeros(2, 3, 6)
    expected[0, 0, 2], expected[0, 0, 4], expected[1, 0, 3] = 2 * 40 / RECENT, 2 * 10 / RECENT, 2
    torch.testing.assert_close(logits - late, expected)
    early = penalise_recent(logits.bfloat16(), sequence, torch.tensor([11]), -2.0)
    assert early.dtype == torch.float32
    expected = torch.zeros(2, 3, 6)
    expected[0, 0, 5] = expected[1, 0, 3] = -2 * 10 / RECENT
    torch.testing.assert_close(logits.bfloat16().float() - early, expected)
    assert torch.equal(penalise_recent(logits, sequence, torch.tensor([1]), 9.0), logits)


def test_uniforms_depend_on_the_clip_alone():
    many = clip_uniforms(7, 4, 50, 3)
    assert torch.equal(many[2:3], clip_uniforms(9, 1, 50, 3))
    assert torch.equal(many[:, :20], clip_uniforms(7, 4, 20, 3))
    assert not torch.equal(many[0], many[1])
    assert torch.equal(clip_uniforms(-1, 1, 5, 3), clip_uniforms(2**64 - 1, 1, 5, 3))


def test_uniforms_never_change():
    """Seeds that people have written down, and players that draw by themselves, rely on these very numbers."""
    numbers = clip_uniforms(7, 1, 2, 3) * 2**24
    assert numbers.int().flatten().tolist() == [10487361, 15052749, 13013846, 3778349, 5035954, 14655794]
    assert clip_uniforms(2**40 + 3, 1, 1, 1).dtype == torch.float32


@pytest.mark.parametrize(
    "bad",
    [
        *({"temp": -1.0}, {"temp": float("nan")}, {"top_k": -1}, {"top_p": 1.5}),
        *({"min_p": -0.1}, {"min_p": 1.1}, {"min_p": float("nan")}, {"cool": 0.0}, {"cool": 11.0}),
        *({"cool": float("nan")}, {"repetition": float("nan")}, {"repetition": -1e4}),
    ],
)
def test_values_out_of_range_are_refused(bad):
    with pytest.raises(UserError, match="must"):
        SamplingParams(**bad)
