"""The language model's own promises: no look ahead, clips independent of their batch, state that can be kept."""

import io

import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.models import LMModel, builders
from audiocraft.models.fast import FastLM
from audiocraft.models.generate import DecoderState, TokenDecoder
from audiocraft.modules.codebooks_patterns import (
    CoarseFirstPattern,
    CodebooksPatternProvider,
    DelayedPatternProvider,
    MusicLMPattern,
    ParallelPatternProvider,
    UnrolledPatternProvider,
)
from audiocraft.modules.conditioners import ConditionFuser, ConditioningProvider, FusedConditions
from audiocraft.modules.sampling import SamplingParams


def tiny_lm(pattern: CodebooksPatternProvider | None = None, **kwargs) -> LMModel:
    torch.manual_seed(0)
    options = {
        "n_q": 4,
        "card": 50,
        "dim": 32,
        "num_heads": 2,
        "num_layers": 2,
        "causal": True,
        "norm_first": True,
        "weight_init": "gaussian",
        **kwargs,
    }
    pattern = pattern or DelayedPatternProvider(options["n_q"])
    return LMModel(pattern, ConditioningProvider({}), ConditionFuser({}), **options).eval()


def test_predictions_do_not_see_the_future():
    lm = tiny_lm()
    codes = torch.randint(0, 50, (1, 4, 12))
    before = lm.compute_predictions(codes, []).logits
    changed = codes.clone()
    changed[0, 2, 6] = (changed[0, 2, 6] + 1) % 50
    after = lm.compute_predictions(changed, []).logits
    # Code (q=2, t=6) is drawn at step 6 + 2 + 1; of the codes drawn then or before, none may change.
    steps = torch.arange(12)[None] + torch.arange(4)[:, None]
    earlier, later = steps <= 8, steps > 8
    assert torch.equal(before[0][earlier], after[0][earlier])
    differs = (before[0] != after[0]).any(-1) & ~before[0].isnan().any(-1)
    assert differs[later].any()


def test_gradients_reach_every_parameter():
    lm = tiny_lm(layer_scale=0.1, qk_layer_norm=True, bias_attn=True).train()
    output = lm.compute_predictions(torch.randint(0, 50, (2, 4, 10)), [])
    assert not output.logits[output.mask].isnan().any()
    output.logits[output.mask].square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in lm.parameters())


def test_generated_codes_are_what_teacher_forcing_predicts():
    for pattern in (None, DelayedPatternProvider(4, [0, 2, 2, 5], flatten_first=2), MusicLMPattern(4)):
        lm = tiny_lm(pattern)
        codes = lm.generate(num_samples=2, max_gen_len=15, use_sampling=False, check=True)
        output = lm.compute_predictions(codes, [], keep_only_valid_steps=False)
        assert output.mask.all()
        assert torch.equal(output.logits.argmax(-1), codes)


PATTERNS = [
    DelayedPatternProvider(4),
    DelayedPatternProvider(4, [1, 1, 3, 4], empty_initial=1),
    ParallelPatternProvider(4),
    UnrolledPatternProvider(4, [0, 1, 1, 3], [0, 2, 2, 3]),
    CoarseFirstPattern(4, [0, 1, 2]),
    MusicLMPattern(4),
]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: type(p).__name__)
def test_every_pattern_generates_and_keeps_the_prompt(pattern: CodebooksPatternProvider):
    lm = tiny_lm(pattern)
    prompt = torch.randint(0, 50, (3, 4, 5))
    codes = lm.generate(prompt, max_gen_len=12, seed=1, check=True)
    assert codes.shape == (3, 4, 12)
    assert torch.equal(codes[..., :5], prompt)
    rest = lm.generate(prompt, max_gen_len=12, seed=1, remove_prompts=True)
    assert torch.equal(rest, codes[..., 5:])


def test_a_clip_comes_out_the_same_alone_or_in_any_batch():
    lm = tiny_lm()
    prompt = torch.randint(0, 50, (5, 4, 6))
    for given in (None, prompt):
        together = lm.generate(given, num_samples=5, max_gen_len=30, seed=11)
        assert len({tuple(clip.flatten().tolist()) for clip in together}) == 5
        for i in range(5):
            alone = lm.generate(None if given is None else given[i : i + 1], num_samples=1, max_gen_len=30, seed=11 + i)
            assert torch.equal(alone[0], together[i])


def test_seeds():
    lm = tiny_lm()
    first = lm.generate(num_samples=2, max_gen_len=20, seed=3)
    assert torch.equal(first, lm.generate(num_samples=2, max_gen_len=20, seed=3))
    assert not torch.equal(first, lm.generate(num_samples=2, max_gen_len=20, seed=4))
    torch.manual_seed(5)
    free = lm.generate(max_gen_len=20)
    assert not torch.equal(free, lm.generate(max_gen_len=20))
    torch.manual_seed(5)
    assert torch.equal(free, lm.generate(max_gen_len=20))


def test_a_longer_clip_starts_as_the_shorter_one():
    lm = tiny_lm()
    long = lm.generate(max_gen_len=30, seed=3)
    # At the end of the shorter one late codebooks see that the first has run out, and may choose otherwise.
    assert torch.equal(lm.generate(max_gen_len=18, seed=3)[..., :16], long[..., :16])


@pytest.mark.parametrize("past_context", [None, 6])
def test_state_is_cloned_saved_and_resumed_bit_exactly(past_context: int | None):
    lm = tiny_lm(past_context=past_context, positional_embedding="rope")
    decoder = TokenDecoder(lm, SamplingParams())
    state = decoder.start(torch.randint(0, 50, (2, 4, 3)), frames=20, seed=9)
    for _ in range(8):
        decoder.step(state)
    copy = state.clone()
    buffer = io.BytesIO()
    torch.save(state.to_dict(), buffer)
    while state.step < state.num_steps:
        decoder.step(state)
    buffer.seek(0)
    resumed = DecoderState.from_dict(torch.load(buffer, weights_only=True))
    assert resumed.step == copy.step == 12  # frame 3 is first drawn at step 4
    for other in (copy, resumed):
        while other.step < other.num_steps:
            decoder.step(other)
        assert torch.equal(other.sequence, state.sequence)
        assert torch.equal(other.branches[0].cache.keys, state.branches[0].cache.keys)
        assert torch.equal(other.branches[0].cache.values, state.branches[0].cache.values)
    assert (decoder.codes(state) >= 0).all()


def test_callback_counts_steps():
    seen: list[tuple[int, int]] = []
    tiny_lm().generate(max_gen_len=10, callback=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 13) for i in range(1, 14)]  # 10 frames and 3 steps of delay
    seen.clear()
    tiny_lm().generate(torch.zeros(1, 4, 4, dtype=torch.long), max_gen_len=10, callback=lambda *x: seen.append(x))
    assert seen[0] == (1, 9) and seen[-1] == (9, 9)


def test_prefix_and_sum_conditions_go_through_the_cache():
    lm = tiny_lm()
    fused = FusedConditions(sum=torch.randn(2, 1, 32), prefix=torch.randn(2, 3, 32))
    sequence = torch.randint(0, 50, (2, 4, 8))
    with torch.no_grad():
        fast, cuts = FastLM(lm), ((0, 2), (2, 3), (3, 8))
        whole = fast.hidden(sequence, fused, fast.make_cache(2, 11), first=True)
        cache = fast.make_cache(2, 11)
        parts = [fast.hidden(sequence[..., a:b], fused, cache, first=a == 0) for a, b in cuts]
    assert whole.shape == (2, 8, 32)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-5)


def test_recomputed_activations_give_the_same_gradients():
    codes = torch.randint(0, 50, (2, 4, 10))
    gradients = []
    for checkpointing in ("none", "torch"):
        lm = tiny_lm(checkpointing=checkpointing).train()
        output = lm.compute_predictions(codes, [])
        output.logits[output.mask].logsumexp(-1).sum().backward()
        gradients.append([p.grad for p in lm.parameters()])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b)


def test_initial_weights():
    torch.manual_seed(0)
    lm = tiny_lm(dim=256, num_heads=4, card=512, depthwise_init="current", zero_bias_init=True, bias_ff=True)
    spread = 0.986  # of a normal distribution cut at 3 deviations
    first, second = lm.transformer.layers
    assert first.linear1.weight.std().item() == pytest.approx(spread / 16 / 2**0.5, rel=0.02)
    assert second.linear1.weight.std().item() == pytest.approx(spread / 16 / 2, rel=0.02)
    assert second.linear2.weight.std().item() == pytest.approx(spread / 32 / 2, rel=0.02)
    assert lm.emb[0].weight.std().item() == pytest.approx(spread / 16, rel=0.02)
    assert lm.linears[0].weight.std().item() == pytest.approx(spread / 16, rel=0.02)
    assert lm.linears[0].weight.abs().max() <= 3 / 16
    assert not first.linear1.bias.any()
    everywhere = tiny_lm(dim=256, weight_init="uniform", depthwise_init="global").transformer.layers[0].linear1.weight
    assert everywhere.abs().max().item() == pytest.approx(3**0.5 / 16 / 2, rel=0.01)


def test_mistakes_are_told():
    lm = tiny_lm()
    with pytest.raises(UserError, match="not clear"):
        lm.generate(torch.zeros(2, 4, 3, dtype=torch.long), num_samples=3)
    with pytest.raises(UserError, match="ask for more"):
        lm.generate(torch.zeros(1, 4, 10, dtype=torch.long), max_gen_len=10)
    with pytest.raises(UserError, match="codec"):
        lm.generate(torch.full((1, 4, 2), 50), max_gen_len=10)
    with pytest.raises(UserError, match="prompt must be"):
        lm.generate(torch.zeros(1, 2, 3, dtype=torch.long))
    with pytest.raises(UserError, match="frames"):
        lm.generate(max_gen_len=0)
    with pytest.raises(UserError, match="clips"):
        lm.generate(num_samples=0)
    with pytest.raises(ValueError, match="eval"):
        lm.train().generate()
    with pytest.raises(UserError, match="special token"):
        tiny_lm(DelayedPatternProvider(4, empty_initial=-1))
    with pytest.raises(UserError, match="weight_init"):
        tiny_lm(weight_init="magic")
    with pytest.raises(UserError, match="depthwise_init"):
        tiny_lm(depthwise_init="magic")


def test_debug_model():
    lm = builders.get_debug_lm_model()
    assert lm.generate(num_samples=2, max_gen_len=6).shape == (2, 4, 6)
    assert lm.card == builders.get_debug_compression_model().cardinality
