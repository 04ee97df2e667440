"""Windows of codes that are the material's, against a search that tries everything."""

import numpy as np
import pytest
import torch

from audiocraft.metrics.copied import Material, copied_windows


def tried(take: np.ndarray, items: list[np.ndarray], window: int, needed: int) -> np.ndarray:
    """Every window at every place of every item; beyond the ends of an item nothing agrees."""
    found = np.zeros(max(0, len(take) - window + 1), dtype=bool)
    for item in items:
        beyond = np.full(window, -5)
        places = np.concatenate([beyond, item, beyond])
        for start in range(len(found)):
            for at in range(len(places) - window + 1):
                agree = (places[at : at + window] == take[start : start + window]).sum()
                found[start] |= agree >= needed
    return found


@pytest.mark.parametrize("seed", range(12))
def test_as_trying_everything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    window, agreement, card = int(rng.integers(2, 12)), float(rng.choice([0.5, 0.8, 1.0])), int(rng.integers(2, 6))
    items = [rng.integers(0, card, rng.integers(1, 30)) for _ in range(3)]
    take = rng.integers(0, card + 1, 25)  # now and then a code that the material has not
    material = Material(items, window, agreement)
    np.testing.assert_array_equal(material.found(take), tried(take, items, window, material.needed))


def test_needed_frames() -> None:
    assert [Material([], window).needed for window in (50, 25, 5, 1)] == [40, 20, 4, 1]
    for window, agreement in ((0, 0.8), (50, 0.0), (50, 1.1)):
        with pytest.raises(ValueError, match="agreement"):
            Material([], window, agreement)


def test_share_at_eighty_per_cent() -> None:
    rng = np.random.default_rng(0)
    material = [torch.from_numpy(rng.integers(0, 2048, (4, 1000))) for _ in range(3)]
    copy = material[1][:, 333:383].clone()
    copy[1:] = 0  # only the first codebook counts
    copy[0, ::5] = 2047 - copy[0, ::5]
    assert copied_windows([copy], material) == 1
    copy[0, 1] = 2047 - copy[0, 1]  # 39 of 50 are too few
    assert copied_windows([copy], material) == 0
    new = torch.from_numpy(rng.integers(0, 2048, (4, 500)))
    assert copied_windows([new], material) == 0
    assert copied_windows([new, material[2][:, 100:600]], material) == 0.5
    assert copied_windows([material[0][0, :60].numpy()], Material(material)) == 1  # one codebook, numpy, indexed


def test_no_window_spans_two_items() -> None:
    codes = np.random.default_rng(0).integers(0, 2048, 100)
    assert copied_windows([codes[25:75]], [codes]) == 1
    assert copied_windows([codes[25:75]], [codes[:50], codes[50:]]) == 0


def test_what_cannot_be_heard_is_left_out() -> None:
    codes = np.random.default_rng(0).integers(0, 2048, 400)
    take = np.concatenate([codes[:100], np.zeros(100, dtype=np.int64)])
    material = [codes, np.zeros(200, dtype=np.int64)]
    heard = np.arange(200) < 100
    assert copied_windows([take], [codes], [np.ones(200, dtype=bool)]) < 0.5
    assert copied_windows([take], [codes], [heard]) > 0.7  # of the windows that sound for half their length
    assert copied_windows([take[100:]], material, [heard[100:]]) is None
    assert copied_windows([take[100:]], material) == 1


def test_nothing_to_say() -> None:
    codes = np.arange(400)
    assert copied_windows([], [codes]) is None
    assert copied_windows([codes[:49]], [codes]) is None and copied_windows([codes[:49]], [codes], [codes[:49]]) is None
    assert copied_windows([codes], []) == 0
    assert copied_windows([np.full(50, -1)], [codes]) == 0  # holes are no codes


def test_the_closest_window_and_where_it_is() -> None:
    rng = np.random.default_rng(0)
    items = [rng.integers(0, 2048, size) for size in (300, 30, 400)]
    near, same = items[0][200:250].copy(), items[2][120:170]
    near[:8] = 2047 - near[:8]
    found = Material(items).closest(np.concatenate([near, rng.integers(0, 2048, 50), same]))
    assert found.likeness[0] == 0.84 and (found.item[0], found.frame[0]) == (0, 200)
    assert found.likeness[100] == 1 and (found.item[100], found.frame[100]) == (2, 120)
    assert found.item[50] == -1 and found.likeness[50] == 0
    assert (found.frame[96], found.item[96]) == (116, 2)  # and so do those that lie a little beside it
    assert len(Material(items).closest(near[:40]).likeness) == 0
