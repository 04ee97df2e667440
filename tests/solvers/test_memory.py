"""Memory counted without values, against what tensors take that have them."""

import pytest
import torch

from audiocraft import train
from audiocraft.solvers.memory import TrainingMemory, _Live

MIB = 2**20


def memory_of(*overrides: str, bfloat16: bool = True) -> TrainingMemory:
    settings = ["solver=musicgen/micro_32khz", "model/lm/model_scale=pico", *overrides]
    return TrainingMemory(train.main.make_xp(settings).cfg, bfloat16)


def test_bytes_that_live() -> None:
    with _Live() as live:
        first = torch.zeros(1000)
        second = first + 1
        view = second[10:]
        del first, second
        live.begin()
        assert live.bytes == 4000
        third = view * 2
        del view
        assert (live.bytes, live.peak) == (third.nbytes, 4000 + third.nbytes)


def test_an_update_holds_five_numbers_for_each_weight() -> None:
    """Weight, gradient, two moments and the moving average."""
    memory = memory_of()
    assert memory.update == pytest.approx(4 * 5 * memory.parameters, rel=1e-3)
    without = memory_of("optim.ema.use=false")
    assert without.update == pytest.approx(4 * 4 * memory.parameters, rel=1e-3)


def test_a_batch_takes_more_in_one_go() -> None:
    memory = memory_of()
    peaks = [memory.peak(segments) for segments in (1, 2, 8, 16)]
    assert peaks == sorted(peaks) and peaks[0] > memory.update
    # Each further segment takes the same.
    assert (peaks[3] - peaks[2]) / 8 == pytest.approx((peaks[2] - peaks[1]) / 6, rel=0.1)
    for remedy in ("transformer_lm.checkpointing=torch", "dataset.segment_duration=5", "tokens.loss_share=0.25"):
        assert memory_of(remedy).peak(8) < 0.9 * peaks[2]
    assert memory_of(bfloat16=False).peak(8) > 1.2 * peaks[2]


def test_how_many_segments_fit() -> None:
    memory = memory_of()
    most = memory.most_segments(200 * MIB)
    assert memory.peak(most) <= 200 * MIB < memory.peak(most + 1)
    assert memory.most_segments(memory.peak(1) - 1) == 0
    assert memory.most_segments(1e12, limit=24) == 24


def test_work_of_a_segment() -> None:
    """Three passes over the products of each step, and attention."""
    cfg = train.main.make_xp(["solver=musicgen/micro_32khz", "model/lm/model_scale=pico"]).cfg.transformer_lm
    products = 12 * cfg.num_layers * cfg.dim**2 + 4 * 2048 * cfg.dim
    memory = memory_of()
    assert 3 * 2 * products * 500 < memory.flops < 1.2 * 3 * 2 * products * 500
