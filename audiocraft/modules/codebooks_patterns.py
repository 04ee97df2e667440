"""How the K codebooks of F frames are laid out as a sequence of steps, one step predicted at a time (arXiv 2306.05284).

A pattern is a list of steps; each step names the codes (frame t, codebook q) it holds. Codebooks that a step leaves
out, and codes beyond the last frame, hold the special token there.
"""

import typing as tp
from collections.abc import Sequence
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from ..errors import BadArgument, UserError


class LayoutCoord(tp.NamedTuple):
    """Frame t of codebook q."""

    t: int
    q: int


PatternLayout = list[list[LayoutCoord]]


class Pattern:
    """One layout for a number of frames, and the way there and back.

    The lookups are index tensors, made once for each device and shared by all who ask: do not write into them.

    Args:
        layout: steps; the first is usually empty: the special token that every sequence starts with.
        timesteps: F, number of frames.
        n_q: K.

    Raises:
        BadArgument: the frames of a codebook do not come in order, or a codebook appears twice in a step. All methods
            raise it for codebooks, frames or steps that the pattern does not have.
    """

    def __init__(self, layout: PatternLayout, timesteps: int, n_q: int) -> None:
        self.layout = layout
        self.timesteps = timesteps
        self.n_q = n_q
        self._lookups: dict[tuple[tp.Any, ...], tuple[Tensor, Tensor]] = {}
        last = [-1] * n_q
        for s, step in enumerate(layout):
            if len({coord.q for coord in step}) != len(step):
                raise BadArgument(f"step {s} of the pattern holds a codebook twice")
            for coord in step:
                if coord.t <= last[coord.q]:
                    raise BadArgument(f"step {s} of the pattern goes back to frame {coord.t} of codebook {coord.q}")
                last[coord.q] = coord.t

    @property
    def num_sequence_steps(self) -> int:
        """Steps after the first."""
        return len(self.layout) - 1

    @cached_property
    def max_delay(self) -> int:
        """Frames by which the layout runs past the last one, while late codebooks catch up."""
        return max((coord.t for step in self.layout for coord in step), default=-1) + 1 - self.timesteps

    @property
    def valid_layout(self) -> PatternLayout:
        """The layout without the steps at its end in which early codebooks have run out."""
        return self.layout[: self.valid_steps]

    @property
    def valid_steps(self) -> int:
        """Steps of `valid_layout`."""
        return len(self.layout) - self.max_delay

    def starts_with_special_token(self) -> bool:
        """Whether the first step is empty."""
        return not self.layout[0]

    def get_sequence_coords_with_timestep(self, t: int, q: int | None = None) -> list[tuple[int, LayoutCoord]]:
        """Steps and coordinates that hold frame `t` (of codebook `q` only, if given)."""
        if not 0 <= t <= self.timesteps:
            raise BadArgument(f"frame {t} is outside 0..{self.timesteps}")
        if q is not None and not 0 <= q < self.n_q:
            raise BadArgument(f"codebook {q} is outside 0..{self.n_q - 1}")
        held = [(s, coord) for s, step in enumerate(self.layout) for coord in step if coord.t == t]
        return [(s, coord) for s, coord in held if q is None or coord.q == q]

    def get_steps_with_timestep(self, t: int, q: int | None = None) -> list[int]:
        """Steps that hold frame `t`, one entry per coordinate."""
        return [s for s, _ in self.get_sequence_coords_with_timestep(t, q)]

    def get_first_step_with_timesteps(self, t: int, q: int | None = None) -> int | None:
        """First step that holds frame `t`, or None."""
        steps = self.get_steps_with_timestep(t, q)
        return steps[0] if steps else None

    @cached_property
    def frame_of(self) -> Tensor:
        """Frame held by codebook q at step s, int64 [K, S]; -1 where it is the special token."""
        frames = torch.full((self.n_q, len(self.layout)), -1)
        for s, step in enumerate(self.layout):
            for t, q in step:
                if t < self.timesteps:
                    frames[q, s] = t
        return frames

    @cached_property
    def step_of(self) -> Tensor:
        """Step that holds frame t of codebook q, int64 [K, F]."""
        steps = torch.full((self.n_q, self.timesteps), -1)
        codebooks, held_at = (self.frame_of >= 0).nonzero(as_tuple=True)
        steps[codebooks, self.frame_of[codebooks, held_at]] = held_at
        return steps

    def sequence_indexes(
        self, keep_only_valid_steps: bool = False, device: torch.device | str = "cpu", timesteps: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Where each place [K, S] of the sequence comes from in flattened codes [K * T], and its mask.

        Places of the special token, and of frames that are not among the first T = `timesteps` (None: F), have index
        K * T and mask False.
        """
        width = self.timesteps if timesteps is None else timesteps

        def make() -> tuple[Tensor, Tensor]:
            frames = self.frame_of[:, : self.valid_steps] if keep_only_valid_steps else self.frame_of
            return self._flattened(frames, (frames >= 0) & (frames < width), width)

        return self._lookup(("sequence", keep_only_valid_steps, width), make, device)

    def reverted_indexes(
        self,
        sequence_steps: int,
        keep_only_valid_steps: bool = False,
        is_model_output: bool = False,
        device: torch.device | str = "cpu",
    ) -> tuple[Tensor, Tensor]:
        """Where each code [K, F] comes from in a flattened sequence [K * S], and its mask.

        Codes the sequence does not hold have index K * S and mask False. With `is_model_output`, place s of the
        sequence predicts step s + 1 of a pattern that starts with the special token.
        """

        def make() -> tuple[Tensor, Tensor]:
            steps = self.step_of
            mask = steps >= 0
            if keep_only_valid_steps:
                mask = mask & (steps < self.valid_steps)
            if is_model_output and self.starts_with_special_token():
                steps = steps - 1
            mask = mask & (steps < sequence_steps)
            return self._flattened(steps, mask, sequence_steps)

        return self._lookup(("reverted", sequence_steps, keep_only_valid_steps, is_model_output), make, device)

    def _flattened(self, columns: Tensor, mask: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Columns [K, N] as indexes into a flattened [K * width], K * width where the mask is False, and the mask."""
        rows = torch.arange(self.n_q)[:, None] * width
        return torch.where(mask, columns + rows, self.n_q * width), mask

    def _lookup(
        self, key: tuple[tp.Any, ...], make: tp.Callable[[], tuple[Tensor, Tensor]], device: torch.device | str
    ) -> tuple[Tensor, Tensor]:
        """Indexes and mask on `device`, kept there: a copy at each step would make the CPU wait for the GPU."""
        key = (*key, torch.device(device))
        if key not in self._lookups:
            # Whoever asks first may be in inference mode, and the next one train.
            with torch.inference_mode(False):
                indexes, mask = make()
                self._lookups[key] = indexes.to(device), mask.to(device)
        return self._lookups[key]

    def build_pattern_sequence(
        self, z: Tensor, special_token: int, keep_only_valid_steps: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Lay codes out as a sequence.

        Args:
            z: codes [B, K, T] of the first T frames, up to all F; of later ones there is no code.
            special_token: value of places without a code.
            keep_only_valid_steps: leave out the steps at the end in which early codebooks have run out.

        Returns:
            values [B, K, S], and as in `sequence_indexes` indexes [K, S] and mask [K, S].
        """
        if z.shape[1] != self.n_q or z.shape[2] > self.timesteps:
            raise BadArgument(
                f"the pattern is for codes [B, {self.n_q}, up to {self.timesteps}], got {list(z.shape)}; get_pattern "
                "makes one for as many frames as there are"
            )
        indexes, mask = self.sequence_indexes(keep_only_valid_steps, z.device, z.shape[2])
        return self._take(z, indexes, special_token), indexes, mask

    def revert_pattern_sequence(
        self, s: Tensor, special_token: int, keep_only_valid_steps: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Codes [B, K, F] of the first steps s [B, K, up to S] of a sequence, with indexes [K, F] and mask [K, F] as in
        `reverted_indexes`. Codes that these do not hold are `special_token`."""
        self._check_steps(s, keep_only_valid_steps)
        indexes, mask = self.reverted_indexes(s.shape[-1], keep_only_valid_steps, device=s.device)
        return self._take(s, indexes, special_token), indexes, mask

    def revert_pattern_logits(
        self, logits: Tensor, special_token: float, keep_only_valid_steps: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [B, card, K, F] of the codes, from logits [B, card, K, up to S] of the first steps of a sequence.

        Place s of the sequence predicts step s + 1. Codes that are not predicted get `special_token`.

        Returns:
            the logits, and indexes [K, F] and mask [K, F] as in `reverted_indexes`.
        """
        self._check_steps(logits, keep_only_valid_steps)
        indexes, mask = self.reverted_indexes(logits.shape[-1], keep_only_valid_steps, True, logits.device)
        return self._take(logits, indexes, special_token), indexes, mask

    def _check_steps(self, sequence: Tensor, keep_only_valid_steps: bool) -> None:
        n_q, steps = sequence.shape[-2:]
        most = self.valid_steps if keep_only_valid_steps else len(self.layout)
        if n_q != self.n_q or steps > most:
            raise BadArgument(f"the pattern has {self.n_q} codebooks and {most} steps, got {n_q} and {steps}")

    @staticmethod
    def _take(values: Tensor, indexes: Tensor, special: float) -> Tensor:
        """Values [..., N, M] at indexes [P, Q] into the last two dimensions flattened, `special` at index N * M."""
        flat = values.flatten(-2)
        flat = torch.cat([flat, flat.new_full((*flat.shape[:-1], 1), special)], dim=-1)
        return flat[..., indexes]


class CodebooksPatternProvider:
    """Makes patterns of one kind for any number of frames, and keeps the last ones.

    Args:
        n_q: K.
        cached: keep patterns; the layouts of songs of one length are made once.
    """

    def __init__(self, n_q: int, cached: bool = True) -> None:
        if n_q < 1:
            raise UserError(f"n_q is {n_q}; a model needs at least one codebook")
        self.n_q = n_q
        self._cached = cached

    def get_pattern(self, timesteps: int) -> Pattern:
        """The pattern for `timesteps` frames, 0 or more."""
        if timesteps < 0:
            raise BadArgument(f"a pattern has 0 frames or more, not {timesteps}")
        return (_kept if self._cached else _made)(self, timesteps)

    def _layout(self, timesteps: int) -> PatternLayout:
        raise NotImplementedError


def _made(provider: CodebooksPatternProvider, timesteps: int) -> Pattern:
    return Pattern(provider._layout(timesteps), timesteps, provider.n_q)


_kept = lru_cache(100)(_made)


class DelayedPatternProvider(CodebooksPatternProvider):
    """Codebook q runs `delays[q]` steps behind: step s holds frame s - delays[q] of each. MusicGen's pattern.

    Args:
        delays: K numbers that do not fall; by default 0, 1, 2, ...
        flatten_first: the codes of this many first frames are predicted one by one.
        empty_initial: empty steps in front, besides the first; -1 takes that one away too.

    Raises:
        UserError: `delays` has not K entries, falls, or goes below 0.
    """

    def __init__(
        self, n_q: int, delays: Sequence[int] | None = None, flatten_first: int = 0, empty_initial: int = 0
    ) -> None:
        super().__init__(n_q)
        self.delays = list(range(n_q)) if delays is None else list(delays)
        self.flatten_first = flatten_first
        self.empty_initial = empty_initial
        _check_delays("delay.delays", self.delays, n_q)
        if sorted(self.delays) != self.delays:
            raise UserError(f"codebooks_pattern.delay.delays is {self.delays}; no delay may be below the one before it")

    def _layout(self, timesteps: int) -> PatternLayout:
        layout: PatternLayout = [[] for _ in range(1 + self.empty_initial)]
        layout += [[LayoutCoord(t, q)] for t in range(min(timesteps, self.flatten_first)) for q in range(self.n_q)]
        for s in range(self.flatten_first, timesteps + max(self.delays)):
            frames = [(s - delay, q) for q, delay in enumerate(self.delays)]
            layout.append([LayoutCoord(t, q) for t, q in frames if t >= self.flatten_first])
        return layout


class ParallelPatternProvider(DelayedPatternProvider):
    """All codebooks of a frame at once."""

    def __init__(self, n_q: int, empty_initial: int = 0) -> None:
        super().__init__(n_q, [0] * n_q, empty_initial=empty_initial)


class UnrolledPatternProvider(CodebooksPatternProvider):
    """Each frame takes several steps, and groups of codebooks may run behind by frames.

    Args:
        flattening: for each codebook, which of the frame's steps holds it; by default one step each.
        delays: for each codebook, the frames it runs behind; codebooks of one step must have the same.

    Raises:
        UserError: a list has not K entries, or delays differ within one step.
    """

    def __init__(self, n_q: int, flattening: Sequence[int] | None = None, delays: Sequence[int] | None = None) -> None:
        super().__init__(n_q)
        self.flattening = list(range(n_q)) if flattening is None else list(flattening)
        self.delays = [0] * n_q if delays is None else list(delays)
        if len(self.flattening) != n_q:
            raise UserError(f"unroll.flattening has {len(self.flattening)} entries for {n_q} codebooks; give one each")
        _check_delays("unroll.delays", self.delays, n_q)
        self._groups: dict[int, list[int]] = {}
        for q, inner in enumerate(self.flattening):
            self._groups.setdefault(inner, []).append(q)
        for inner, codebooks in self._groups.items():
            if len({self.delays[q] for q in codebooks}) > 1:
                raise UserError(f"unroll.delays differ within step {inner} of unroll.flattening; give them one delay")

    def num_virtual_steps(self, timesteps: int) -> int:
        """Steps of the sequence, the first one included, without those that delays add."""
        return timesteps * (max(self.flattening) + 1) + 1

    def _layout(self, timesteps: int) -> PatternLayout:
        layout: PatternLayout = [[]]
        for frame in range(timesteps + max(self.delays)):
            steps: PatternLayout = [[] for s in range(max(self.flattening) + 1) if s not in self._groups]
            for codebooks in self._groups.values():
                t = frame - self.delays[codebooks[0]]
                if t >= 0:
                    steps.append([LayoutCoord(t, q) for q in codebooks])
            # The peer's order within a frame: empty steps first, then the oldest codes.
            layout += sorted(steps)
        return layout


class CoarseFirstPattern(CodebooksPatternProvider):
    """All frames of the first codebook, then the others together, as VALL-E does (arXiv 2301.02111).

    Args:
        delays: K - 1 numbers, the steps that the others run behind among themselves; by default 0.

    Raises:
        UserError: `delays` has not K - 1 entries, or goes below 0.
    """

    def __init__(self, n_q: int, delays: Sequence[int] | None = None) -> None:
        super().__init__(n_q)
        if n_q < 2:
            raise UserError("codebooks_pattern.modeling=coarse_first needs two codebooks or more; use delay")
        self.delays = [0] * (n_q - 1) if delays is None else list(delays)
        _check_delays("coarse_first.delays", self.delays, n_q - 1)

    def _layout(self, timesteps: int) -> PatternLayout:
        layout: PatternLayout = [[]]
        layout += [[LayoutCoord(t, 0)] for t in range(timesteps)]
        for s in range(timesteps + max(self.delays)):
            frames = [(s - delay, q) for q, delay in enumerate(self.delays, start=1)]
            layout.append([LayoutCoord(t, q) for t, q in frames if t >= 0])
        return layout


class MusicLMPattern(CodebooksPatternProvider):
    """Groups of codebooks one after the other, within a group code by code, as MusicLM does (arXiv 2301.11325).

    Args:
        group_by: codebooks per group; K must be divisible by it.

    Raises:
        UserError: it is not.
    """

    def __init__(self, n_q: int, group_by: int = 2) -> None:
        super().__init__(n_q)
        if group_by < 1 or n_q % group_by:
            raise UserError(f"codebooks_pattern.music_lm.group_by is {group_by}; it must divide the {n_q} codebooks")
        self.group_by = group_by

    def _layout(self, timesteps: int) -> PatternLayout:
        layout: PatternLayout = [[]]
        for first in range(0, self.n_q, self.group_by):
            for t in range(timesteps):
                layout += [[LayoutCoord(t, q)] for q in range(first, first + self.group_by)]
        return layout


def _check_delays(key: str, delays: Sequence[int], n_q: int) -> None:
    if len(delays) != n_q:
        raise UserError(f"codebooks_pattern.{key} has {len(delays)} entries for {n_q} codebooks; give one each")
    if min(delays) < 0:
        raise UserError(f"codebooks_pattern.{key} is {list(delays)}; every delay must be 0 or above")
