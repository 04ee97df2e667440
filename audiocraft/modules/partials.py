"""Wave → one partial a frame, for the spectral codec: which tones there are, and which of them a frame codes."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from .sines import (
    FRAME,
    LEVELS,
    LOWEST_DB,
    LOWEST_HZ,
    PARTIALS,
    PITCHES,
    SAMPLE_RATE,
    STEP_CENTS,
    STEP_DB,
)

WINDOW = 4096  # samples: pitch needs more time than loudness
REACH = (WINDOW - FRAME) // 2  # samples that a frame looks at before its first and after its last
HIGHEST_HZ = 4000.0
CANDIDATES = 8  # partials of a frame that are looked at
RANGE_DB = 32.0  # below the strongest of the frame
QUIETEST_DB = -63.0
STANDS_OUT = 3.0  # times the mean of the 400 Hz around it
SAME_CENTS, NEAR_CENTS = 70.0, 90.0  # another place's partial already, this place's still
LOYALTY_DB = 6.0  # by which a place's partial may be the weaker
HOLD_CENTS, HOLD_DB = 16.0, 0.7 * STEP_DB  # a code changes when it is farther off than that
_NOTHING = -1e6
_SILENT_DB = -200.0


@dataclass
class PlacesState:
    """What each place's partial is: cents above LOWEST_HZ and level in dB [B, PARTIALS]; frames so far."""

    cents: torch.Tensor
    level: torch.Tensor
    frames: int = 0


def start_places(clips: int) -> PlacesState:
    """The state before the first frame of so many clips."""
    return PlacesState(torch.full((clips, PARTIALS), _NOTHING), torch.full((clips, PARTIALS), _SILENT_DB))


def find_partials(wav: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """wav [B, 2 * REACH + F * FRAME] → cents above LOWEST_HZ and levels in dB [B, F, CANDIDATES], the strongest first.

    Level is that of the sine's amplitude. Where there are fewer candidates the level is below QUIETEST_DB.
    """
    window = torch.hann_window(WINDOW, device=wav.device)
    spectrum = torch.stft(wav, WINDOW, FRAME, window=window, center=False, return_complex=True).abs().transpose(1, 2)
    low, high = int(LOWEST_HZ * WINDOW / SAMPLE_RATE), int(HIGHEST_HZ * WINDOW / SAMPLE_RATE) + 4
    around = F.avg_pool1d(F.pad(spectrum[..., : high + 40], (25, 25), mode="reflect"), 51, 1)[..., low:high]
    below, here, above = (spectrum[..., low + d : high + d] for d in (-1, 0, 1))
    full_scale = WINDOW / 4
    found = (here > below) & (here >= above) & (here > STANDS_OUT * around)
    found &= here > full_scale * 10 ** (QUIETEST_DB / 20)
    strength, at = torch.where(found, here, 0.0).topk(CANDIDATES, dim=-1)
    left, mid, right = (torch.log(part.gather(2, at) + 1e-9) for part in (below, here, above))
    offset = (0.5 * (left - right) / (left - 2 * mid + right - 1e-9)).clamp(-0.5, 0.5)
    hz = (at + low + offset) * (SAMPLE_RATE / WINDOW)
    level = 20 * torch.log10(torch.exp(mid - 0.25 * (left - right) * offset) / full_scale + 1e-9)
    used = (strength > 0) & (level > level[..., :1] - RANGE_DB) & (hz >= LOWEST_HZ) & (hz < HIGHEST_HZ)
    return 1200 * torch.log2(hz.clamp(min=1.0) / LOWEST_HZ), torch.where(used, level, _SILENT_DB)


def choose_partials(state: PlacesState, cents: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """Codes [B, F] of what `find_partials` gave for the next frames; `state` is changed.

    Frames serve PARTIALS places in turn. Each codes the strongest partial that no other place has; the one its place
    had before stays while it is nearly as strong, and its code stands still while it is nearly right.
    """
    clips = torch.arange(len(cents))
    cents, level = cents.cpu(), level.cpu()
    codes = []
    for now_cents, now_level in zip(cents.unbind(1), level.unbind(1)):
        place = state.frames % PARTIALS
        others = [p for p in range(PARTIALS) if p != place]
        taken = ((now_cents[:, :, None] - state.cents[:, None, others]).abs() < SAME_CENTS).any(-1)
        near = (now_cents - state.cents[:, place, None]).abs() < NEAR_CENTS
        worth = torch.where(taken, 2 * _SILENT_DB, now_level) + LOYALTY_DB * near
        best = worth.argmax(1)
        there = worth[clips, best] > _SILENT_DB / 2
        pitch, loud = now_cents[clips, best], now_level[clips, best]
        hold = (pitch - state.cents[:, place]).abs() < HOLD_CENTS
        step = (pitch / STEP_CENTS).round().clamp(0, PITCHES - 1)
        step = torch.where(hold, state.cents[:, place] / STEP_CENTS, step)
        hold &= (loud - state.level[:, place]).abs() < HOLD_DB
        rung = ((loud - LOWEST_DB) / STEP_DB).round().clamp(0, LEVELS - 1)
        rung = torch.where(hold, (state.level[:, place] - LOWEST_DB) / STEP_DB, rung)
        state.cents[:, place] = torch.where(there, step * STEP_CENTS, _NOTHING)
        state.level[:, place] = torch.where(there, LOWEST_DB + rung * STEP_DB, _SILENT_DB)
        codes.append(torch.where(there, 1 + step.round() * LEVELS + rung.round(), 0).long())
        state.frames += 1
    return torch.stack(codes, dim=1)
