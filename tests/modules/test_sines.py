"""The spectral codec's decoder: streams, partials, phases, silence."""

import copy

import numpy as np
import pytest

from audiocraft.modules import sines
from audiocraft.modules.sines import SinesDecoder, partial_of


def decoder(level: float = -9.0, card: int = 64) -> SinesDecoder:
    """Of random envelopes around `level` (log10 of magnitudes); bins belong to the band nearest to them."""
    rng = np.random.default_rng(0)
    width = sines.COLUMNS * sines.BANDS
    spread = np.zeros((sines.BANDS, sines.BINS))
    spread[np.arange(sines.BINS) * sines.BANDS // sines.BINS, np.arange(sines.BINS)] = 1
    books = 0.3 * rng.standard_normal((3, card, width))
    return SinesDecoder(np.full(width, level), books, spread, bins=2048)


def random_codes(clips: int, frames: int, card: int = 64) -> np.ndarray:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, card, (clips, 4, frames))
    codes[:, sines.TONES] = np.repeat(rng.integers(0, sines.PARTIAL_CODES, (clips, 1 + frames // 6)), 6, 1)[:, :frames]
    return codes


def code_of(hz: float, level: float) -> int:
    pitch = round(1200 * np.log2(hz / sines.LOWEST_HZ) / sines.STEP_CENTS)
    return 1 + pitch * sines.LEVELS + round((level - sines.LOWEST_DB) / sines.STEP_DB)


def play(player: SinesDecoder, codes: np.ndarray) -> np.ndarray:
    return player.push(player.start(), codes, last=True)


def test_partials_of_codes() -> None:
    hz, level = partial_of(np.array([0, 1, code_of(440, -14), sines.PARTIAL_CODES - 1, -1]))
    assert hz[[0, 4]].tolist() == [0, 0] and hz[1] == sines.LOWEST_HZ and level[1] == sines.LOWEST_DB
    assert hz[2] == pytest.approx(440, rel=0.0073) and level[2] == -14
    assert 3900 < hz[3] < 4000 and level[3] == -14


@pytest.mark.parametrize("sizes", [(1,) * 40, (7, 0, 13, 20), (39, 1)])
def test_joined_pieces_are_the_whole(sizes: tuple[int, ...]) -> None:
    player, codes = decoder(-1.0), random_codes(2, 40)
    whole = play(player, codes)
    assert whole.shape == (2, 40 * sines.FRAME) and whole.dtype == np.float32 and np.abs(whole).max() > 1e-3
    state, parts, done = player.start(), [], 0
    for size in sizes:
        parts.append(player.push(state, codes[:, :, done : done + size], last=done + size == 40))
        done += size
        # What is held back is bounded, and so is the look-ahead.
        assert done == 40 or done * sines.FRAME - sum(part.shape[1] for part in parts) <= sines.DELAY
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-6)
    assert sines.DELAY / sines.SAMPLE_RATE <= 0.2


def test_a_state_can_be_copied() -> None:
    player, codes = decoder(-1.0), random_codes(1, 30)
    state = player.start()
    player.push(state, codes[:, :, :17])
    other = copy.deepcopy(state)
    ends = [player.push(one, codes[:, :, 17:], last=True) for one in (state, other)]
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_short_streams(frames: int) -> None:
    player = decoder(-1.0)
    assert play(player, random_codes(1, frames)).shape == (1, frames * sines.FRAME)
    assert play(player, random_codes(1, frames)[:, :1]).shape == (1, frames * sines.FRAME)
    state = player.start()
    assert player.push(state, random_codes(1, 0)).shape == (1, 0)


def test_clips_do_not_hear_each_other() -> None:
    player, codes = decoder(-1.0), random_codes(3, 20)
    np.testing.assert_allclose(play(player, codes)[1:2], play(player, codes[1:2]), atol=1e-5)


def test_silence_is_silent() -> None:
    assert np.abs(play(decoder(-12.0), random_codes(1, 20))).max() < 1e-3
    quiet = decoder()
    quiet.books[:] = 0
    assert np.abs(play(quiet, random_codes(1, 20))).max() == 0


def test_a_partial_is_in_tune_and_as_loud_as_its_code_says() -> None:
    player, codes = decoder(0.95), np.zeros((1, 4, 60), int)
    player.books[:] = 0
    codes[:, sines.TONES, ::3] = code_of(523.25, -15)
    wav = play(player, codes)[0, 8000:-8000]
    spectrum = np.abs(np.fft.rfft(wav * np.hanning(len(wav)))) / (len(wav) / 4)
    peak = spectrum.argmax()
    cents = 1200 * np.log2(peak * sines.SAMPLE_RATE / len(wav) / 523.25)
    assert abs(cents) < 14
    # The envelope says -25 dB; the level's code may be missed by so much.
    assert 20 * np.log10(spectrum[peak]) == pytest.approx(-15 - sines.LEVEL_SLACK, abs=1.5)


def test_partials_glide_or_hand_over_without_clicks() -> None:
    """A sine that moves or changes has no energy far from it, but for the envelope's rest."""
    player = decoder(-12.0)
    player.books[:] = 0
    player.mean[:] = np.tile(np.where(np.arange(sines.BANDS) < 8, 1.0, -12.0), sines.COLUMNS)
    codes = np.zeros((1, 4, 60), int)
    codes[0, sines.TONES, ::3] = [code_of(hz, -15) for hz in (440, 452, 600) for _ in range(7)][:20]
    spectrum = np.abs(np.fft.rfft(play(player, codes)[0]))
    hz = np.fft.rfftfreq(60 * sines.FRAME, 1 / sines.SAMPLE_RATE)
    assert spectrum[hz > 8000].max() < 1e-3 * spectrum.max()


def test_nothing_hums() -> None:
    """A steady envelope of noise has no lines at the rates of frames and columns."""
    import torch
    from heard import hum

    player, codes = decoder(0.0), np.zeros((1, 4, 200), int)
    player.books[:] = 0
    noise = torch.randn(1, 128000, generator=torch.Generator().manual_seed(0))
    wav = torch.from_numpy(play(player, codes))
    assert [hum(wav, noise, 32000, rate) < 3 for rate in (50, 100, 200)] == [True] * 3


def test_what_fits_a_harmonic_series_gathers_around_its_members() -> None:
    """Two partials of one note let the rest sound at the multiples; two that have nothing in common do not."""

    def concentration(second: float) -> float:
        player, codes = decoder(0.0), np.zeros((1, 4, 150), int)
        player.books[:] = 0
        codes[0, sines.TONES, 0::3], codes[0, sines.TONES, 1::3] = code_of(400, -20), code_of(second, -20)
        wav = play(player, codes)[0]
        power = np.abs(np.fft.rfft(wav * np.hanning(len(wav)))) ** 2
        hz = np.fft.rfftfreq(len(wav), 1 / sines.SAMPLE_RATE)
        high, near = (hz > 1500) & (hz < 6000), np.abs((hz + 200) % 400 - 200) < 60
        return power[high & near].sum() / power[high].sum()

    assert concentration(800) > 0.7 > 0.4 > concentration(960)
