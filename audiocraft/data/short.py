"""What becomes of a segment that its file does not fill.

`pad` leaves it short (zeros follow later and are not counted), `loop` repeats the file, `join` goes on with other
files: folders of loops and one-shots are what musicians have, and padding would be most of what a model sees of them.
The functions work on the last axis, so that samples and codec frames are filled alike.
"""

from collections.abc import Callable, Iterable

import torch

from ..errors import UserError

SHORT_MODES = ("pad", "loop", "join")


def check_short(mode: str) -> str:
    """Raises UserError unless `mode` is one of `SHORT_MODES`."""
    if mode not in SHORT_MODES:
        raise UserError(f"dataset.short={mode} is unknown; choose one of {', '.join(SHORT_MODES)}")
    return mode


def seek_range(mode: str, file_duration: float, segment_duration: float, min_segment_ratio: float) -> float:
    """Up to which second of a file a segment may begin.

    `pad` lets it begin where at least `min_segment_ratio` of it is still audio. `loop` and `join` let it fit if the
    file is long enough; a shorter file is entered anywhere (`loop`: it goes round) or at its start (`join`: a one-shot
    keeps its attack).
    """
    if mode == "pad":
        return max(0.0, file_duration - segment_duration * min_segment_ratio)
    if mode == "loop" and file_duration < segment_duration:
        return file_duration
    return max(0.0, file_duration - segment_duration)


def fill(
    mode: str,
    piece: torch.Tensor,
    length: int,
    whole: Callable[[], torch.Tensor | None],
    others: Iterable[torch.Tensor],
) -> torch.Tensor:
    """`piece` [..., T] cut to `length`, or with `loop` and `join` brought to it.

    Args:
        mode: one of `SHORT_MODES`.
        piece: what the file gave, T > 0.
        length: what is wanted.
        whole: gives the file from its start, for `loop`; None if it cannot be read there, then `piece` itself goes
            round.
        others: gives as many pieces of other files as needed, for `join`.
    """
    missing = length - piece.shape[-1]
    if missing <= 0:
        return piece[..., :length]
    if mode == "pad":
        return piece
    parts = [piece]
    if mode == "loop":
        again = whole()
        again = piece if again is None else again
        rounds = -(-missing // again.shape[-1])
        parts += [again] * rounds
    else:
        for other in others:
            parts.append(other)
            missing -= other.shape[-1]
            if missing <= 0:
                break
    return torch.cat(parts, dim=-1)[..., :length]
