"""The token decoder: cached as uncached, spans as exact lengths, every precision, states that go on bit by bit."""

import io
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from audiocraft.errors import UserError
from audiocraft.models import LMModel, MusicGen, loaders
from audiocraft.models import generate as token_decoder
from audiocraft.models.fast import PRECISIONS, FastLM, Int8Linear, packing, resolve_precision
from audiocraft.models.generate import DecoderState, TokenDecoder, check_result, check_room
from audiocraft.models.graphs import graphs_wanted
from audiocraft.models.playback import Playback
from audiocraft.modules.codebooks_patterns import (
    CodebooksPatternProvider,
    DelayedPatternProvider,
    MusicLMPattern,
    UnrolledPatternProvider,
)
from audiocraft.modules.conditioners import ConditionFuser, ConditioningProvider, FusedConditions
from audiocraft.modules.sampling import SamplingParams

CPU = torch.device("cpu")
needs_int8 = pytest.mark.skipif(resolve_precision("auto", CPU) != "int8", reason="no 8-bit kernels here")


def tiny_lm(pattern: CodebooksPatternProvider | None = None, **kwargs: Any) -> LMModel:
    torch.manual_seed(0)
    options = {"n_q": 4, "card": 50, "dim": 32, "num_heads": 2, "num_layers": 2, "causal": True, "norm_first": True}
    options |= {"weight_init": "gaussian", **kwargs}
    provider = pattern or DelayedPatternProvider(4)
    return LMModel(provider, ConditioningProvider({}), ConditionFuser({}), **options).eval()


def run(decoder: TokenDecoder, state: DecoderState) -> torch.Tensor:
    while state.step < state.num_steps:
        decoder.step(state)
    return decoder.codes(state)


VARIANTS: dict[str, dict[str, Any]] = {
    "sin": {},
    "rope": {"positional_embedding": "rope"},
    "past_context": {"past_context": 7, "positional_embedding": "sin_rope"},
    "post_norm": {"norm_first": False, "layer_scale": 0.5},
    "kv_repeat": {"kv_repeat": 2, "bias_attn": False, "bias_proj": False},
    "qk_norm": {"qk_layer_norm": True, "activation": "swiglu"},
    "wide_heads": {"dim": 640, "num_heads": 2},  # wider than torch's fused kernels
}


@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_drawn_codes_are_what_the_whole_model_predicts(name: str, spans: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step with a cache as in one go without; also as graphs need it, on several spans of the cache."""
    monkeypatch.setattr(token_decoder, "_SPAN_STEPS", 8)
    lm = tiny_lm(**VARIANTS[name])
    decoder = TokenDecoder(lm, SamplingParams(use_sampling=False), spans=spans)
    prompt = torch.randint(50, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    codes = run(decoder, decoder.start(prompt, frames=24))
    predicted = lm.compute_predictions(codes, [], keep_only_valid_steps=False).logits.argmax(-1)
    assert torch.equal(codes[..., :5], prompt)
    assert torch.equal(codes[..., 5:], predicted[..., 5:])


@pytest.mark.parametrize("pattern", [MusicLMPattern(4), UnrolledPatternProvider(4, [0, 1, 1, 3], [0, 2, 2, 3])])
def test_spans_draw_the_same_on_other_patterns(
    pattern: CodebooksPatternProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_decoder, "_SPAN_STEPS", 16)
    lm = tiny_lm(pattern)
    exact, spans = (TokenDecoder(lm, SamplingParams(), spans=spans) for spans in (False, True))
    states = [decoder.start(num_samples=2, frames=12, seed=4) for decoder in (exact, spans)]
    assert torch.equal(run(exact, states[0]), run(spans, states[1]))
    assert (exact.codes(states[0]) >= 0).all()


@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize("name", ["lm_none", "lm_rope"])
def test_golden_greedy_tokens(golden: Path, name: str, spans: bool) -> None:
    lm = loaders.load_lm_model(golden / name)
    expected = load_file(golden / name / "io.safetensors")["gen_greedy"]
    decoder = TokenDecoder(lm, SamplingParams(use_sampling=False), spans=spans)
    state = decoder.start(num_samples=len(expected), frames=expected.shape[-1])
    assert torch.equal(run(decoder, state), expected)


def test_conditions_in_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefix, sum and cross-attention, guided in one batch, through spans and through copies of clips."""
    monkeypatch.setattr(token_decoder, "_SPAN_STEPS", 8)
    lm = tiny_lm(cross_attention=True)
    generator = torch.Generator().manual_seed(2)
    fused = [
        FusedConditions(
            sum=torch.randn(4, 1, 32, generator=generator),
            prefix=torch.randn(4, 3, 32, generator=generator),
            cross=torch.randn(4, 5, 32, generator=generator),
        )
    ]
    out = []
    for spans in (False, True):
        decoder = TokenDecoder(lm, SamplingParams(), cfg_coef=3.0, spans=spans)
        state = decoder.start(num_samples=2, frames=15, seed=1, fused=fused)
        assert len(state.branches) == 1 and state.branches[0].cache.keys.shape[1] == 4
        for _ in range(5):
            decoder.step(state)
        turned = state.take([1, 0, 1])
        out.append(run(decoder, state))
        assert torch.equal(run(decoder, turned), out[-1][[1, 0, 1]])
    assert torch.equal(*out)


@pytest.mark.parametrize("params", [SamplingParams(), SamplingParams(min_p=0.01, cool=0.9, repetition=9.0)])
@pytest.mark.parametrize("spans", [False, True])
def test_many_takes_from_one_moment(spans: bool, params: SamplingParams) -> None:
    lm = tiny_lm(positional_embedding="rope")
    decoder = TokenDecoder(lm, params, spans=spans)
    state = decoder.start(num_samples=1, frames=30, seed=3)
    for _ in range(12):
        decoder.step(state)
    buffer = io.BytesIO()
    torch.save(state.to_dict(), buffer)
    buffer.seek(0)
    moment = DecoderState.from_dict(torch.load(buffer, weights_only=True))
    fresh = run(decoder, moment.take([0] * 4, seeds=[70, 71, 72, 3]))
    shared = moment.step - 1 - 3  # frames whose codes are all drawn
    assert (fresh[:, :, :shared] == fresh[:1, :, :shared]).all()
    assert len({tuple(take.flatten().tolist()) for take in fresh}) == 4
    assert torch.equal(fresh[3:], run(decoder, state))  # its own seed goes on as if nothing had happened
    assert torch.equal(run(decoder, moment.take([0], seeds=[71])), fresh[1:2])
    assert moment.step == 13, "branches changed the moment they come from"


@pytest.mark.parametrize("pattern", [None, DelayedPatternProvider(4, delays=[1, 1, 2, 3])])
def test_what_is_stuck_comes_loose(pattern: CodebooksPatternProvider | None) -> None:
    """A model that holds one code in each codebook; `repetition` acts on the first, after as long as it says."""
    lm = tiny_lm(pattern)
    with torch.no_grad():
        for number, linear in enumerate(lm.linears):
            linear.weight.zero_()
            linear.bias.zero_()
            linear.bias[number], linear.bias[10 + number] = 2.0, 1.0
    held = torch.arange(4)[:, None].expand(4, 120)
    for repetition, expected in ((0.0, None), (2.0, 26), (1.5, 34), (-4.0, None)):
        params = SamplingParams(use_sampling=False, repetition=repetition)
        decoder = TokenDecoder(lm, params)
        codes = run(decoder, decoder.start(frames=120))[0]
        assert torch.equal(codes[1:], held[1:])
        left = (codes[0] != 0).nonzero()[:1].flatten().tolist()
        assert left == ([] if expected is None else [expected])
        assert set(codes[0].tolist()) == ({0} if expected is None else {0, 10})
        # A prompt's frames count: what was held in it is left as soon.
        prompt = held[None, :, :10].contiguous()
        assert torch.equal(run(decoder, decoder.start(prompt, frames=120))[0], codes)


def test_takes_of_no_clip_are_refused() -> None:
    state = TokenDecoder(tiny_lm(), SamplingParams()).start(num_samples=2, frames=5)
    with pytest.raises(UserError, match="asked for 0 clips"):
        state.take([])
    for clips in ([0, 2], [-1]):
        with pytest.raises(UserError, match="of 2; the first is 0"):
            state.take(clips)


def test_the_model_is_played_as_it_is_now() -> None:
    lm = tiny_lm()
    playing = FastLM(lm)
    assert playing.is_current(lm)
    before = lm.generate(max_gen_len=20, use_sampling=False)
    with torch.no_grad():
        lm.linears[0].weight.mul_(-1)
    assert not playing.is_current(lm)
    assert not torch.equal(lm.generate(max_gen_len=20, use_sampling=False), before)


@pytest.mark.parametrize("precision", ["float32", pytest.param("int8", marks=needs_int8)])
def test_a_model_made_in_inference_mode_plays(precision: str) -> None:
    """Within that mode and outside of it, as the same model made in the usual way."""
    plain = tiny_lm()
    with torch.inference_mode():
        lm = tiny_lm()
    assert all(p.is_inference() for p in lm.parameters())
    drawn = []
    for each in (plain, lm):
        for mode in (False, True):
            with torch.inference_mode(mode):
                playing = FastLM(each, precision)
                decoder = TokenDecoder(playing, SamplingParams())
                drawn.append(run(decoder, decoder.start(frames=12, seed=3)))
                assert playing.is_current(each)
    assert all(torch.equal(drawn[0], codes) for codes in drawn)
    lm.linears[0].weight = torch.nn.Parameter(-lm.linears[0].weight)
    assert not playing.is_current(lm)


def test_playing_changes_nothing_in_the_model() -> None:
    lm = tiny_lm(cross_attention=True, qk_layer_norm=True)
    before = {name: value.clone() for name, value in lm.state_dict().items()}
    for precision in ("float32", "bfloat16"):
        FastLM(lm, precision)
    assert list(lm.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in lm.state_dict().items())
    assert all(p.requires_grad for p in lm.parameters())


def kl_to_float32(lm: LMModel, precision: str) -> float:
    """Mean KL divergence of next-token distributions, over drawn codes."""
    codes = lm.generate(num_samples=2, max_gen_len=30, seed=0)
    sequence, _, _ = lm.pattern_provider.get_pattern(30).build_pattern_sequence(codes, lm.special_token_id)
    both = []
    for each in ("float32", precision):
        playing = FastLM(lm, each)
        hidden = playing.hidden(sequence, FusedConditions(), playing.make_cache(2, 40), first=True)
        both.append(playing.logits(hidden.flatten(0, 1)).log_softmax(-1))
    exact, rounded = both
    return (exact.exp() * (exact - rounded)).sum(-1).mean().item()


@torch.no_grad()
def test_bfloat16_is_close() -> None:
    assert 0 < kl_to_float32(tiny_lm(dim=128), "bfloat16") < 1e-3


@needs_int8
@torch.no_grad()
def test_int8_is_close_and_the_same_in_any_batch() -> None:
    lm = tiny_lm(dim=128)
    assert 0 < kl_to_float32(lm, "int8") < 2e-3
    playing = FastLM(lm, "int8")
    decoder = TokenDecoder(playing, SamplingParams())
    batch = run(decoder, decoder.start(num_samples=4, frames=20, seed=5))
    for i in range(4):
        assert torch.equal(run(decoder, decoder.start(num_samples=1, frames=20, seed=5 + i)), batch[i : i + 1])


@needs_int8
@torch.no_grad()
def test_int8_does_not_saturate() -> None:
    """Large equal values in wide rows are what overflows 16-bit sums of 8-bit products."""
    weight = torch.full((8, 2048), 0.9)
    weight[::2] *= -1
    x = torch.cat([torch.full((1, 2048), 3.0), torch.linspace(-5, 5, 2048)[None], torch.zeros(1, 2048)])
    x[0, 0] = 0.0
    bias = torch.arange(8.0)
    with packing("int8"):
        linear = Int8Linear(weight, bias)
    torch.testing.assert_close(linear(x), x @ weight.t() + bias, rtol=5e-3, atol=0.5)


@needs_int8
@torch.no_grad()
def test_int8_leaves_the_engine_of_others_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """In many threads, of one model and of several at once, under any engine; and what is packed runs under each."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    engines = torch.backends.quantized
    before, lm = engines.engine, tiny_lm(dim=128)
    made: list[FastLM] = []
    try:
        for engine in engines.supported_engines:
            engines.engine = engine
            for _ in range(5):
                with ThreadPoolExecutor(3) as pool:
                    made += pool.map(lambda _: FastLM(lm, "int8"), range(3))
                assert engines.engine == engine
        codes = torch.randint(50, (2, 4, 6), generator=torch.Generator().manual_seed(1))
        logits = []
        for number, playing in enumerate(made):
            engines.engine = engines.supported_engines[number % len(engines.supported_engines)]
            hidden = playing.hidden(codes, FusedConditions(), playing.make_cache(2, 6), first=True)
            logits.append(playing.logits(hidden[:, -1]))
        assert all(torch.equal(logits[0], other) for other in logits)
    finally:
        engines.engine = before


def test_precisions_that_are_not_there() -> None:
    with pytest.raises(UserError, match="unknown precision int4"):
        resolve_precision("int4", CPU)
    with pytest.raises(UserError, match="int8 needs"):
        resolve_precision("int8", torch.device("mps"))
    with pytest.raises(UserError, match="slower"):
        resolve_precision("float16", CPU)
    assert resolve_precision("auto", torch.device("mps")) == "float32"
    assert resolve_precision("auto", CPU) in PRECISIONS


def test_graphs_can_be_switched(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    monkeypatch.delenv("AUDIOCRAFT_CUDA_GRAPHS", raising=False)
    assert graphs_wanted(None, cuda) and not graphs_wanted(False, cuda) and not graphs_wanted(True, CPU)
    monkeypatch.setenv("AUDIOCRAFT_CUDA_GRAPHS", "0")
    assert not graphs_wanted(None, cuda) and graphs_wanted(True, cuda)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("params", [SamplingParams(), SamplingParams(use_sampling=False)])
@pytest.mark.parametrize("precision", ["float32", pytest.param("int8", marks=needs_int8)])
def test_a_model_without_numbers_is_refused(value: float, params: SamplingParams, precision: str) -> None:
    """Drawn from NaN, every code would be 0, and sound like a model."""
    lm = tiny_lm()
    lm.linears[2].weight.data[7] = value
    decoder = TokenDecoder(lm, params, precision=precision)
    with pytest.raises(UserError, match="computes no numbers any more"):
        run(decoder, decoder.start(num_samples=2, frames=5))


def test_too_small_a_gpu_says_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 << 30, 8 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1 << 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 << 30)
    check_room(cuda, 1 << 28, 10)
    with pytest.raises(UserError, match="the largest batch that fits is 10"):
        check_room(cuda, 1 << 28, 11)
    with pytest.raises(UserError, match="shorter duration"):
        check_room(cuda, 1 << 33, 1)
    model = MusicGen.get_pretrained("debug", "cpu")
    playback = Playback(model.lm, model.compression_model, "float32", cuda)
    playback.check_size(2, 1000)
    with pytest.raises(UserError, match="the largest batch that fits"):  # the sound, before any code is drawn
        playback.check_size(2, (2 << 30) // (model.compression_model.hop_length * 4))


def test_too_much_sound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_result(1 << 20)
    with pytest.raises(UserError, match="stream"):
        check_result(1 << 50)
