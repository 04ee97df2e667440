"""Recipes: what is to be done to codes, as a musician writes it, and drawn at random.

A recipe is a list of (option, value) as on the command line, e.g. `("hold", "0.2@1,2")`; read for one codec it becomes
a list of `Bend`. Lengths are seconds, or frames with an f behind (`5f`); `@` chooses codebooks, counted from 1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import UserError
from ..models.codec import CompressionModel
from . import bend

SPEEDS = (0.05, 20.0)
Recipe = list[tuple[str, str]]

# Fewer frames than these change nothing.
_LEAST_FRAMES = {"shuffle": 1, "hold": 2, "stutter": 1, "reverse": 2}
# What a recipe that is drawn takes one of.
_DRAWN_LENGTHS = {"shuffle": ("0.06", "0.12", "0.25", "0.5"), "hold": ("2f", "4f", "8f", "0.25", "0.5")}
_DRAWN_LENGTHS |= {"stutter": ("2f", "0.08", "0.16", "0.32"), "reverse": ("all", "0.12", "0.25", "1")}


@dataclass(frozen=True)
class Bend:
    """One operation, read for a codec.

    option: its name on the command line. codebooks: those it touches, from 1. frames: length of a block; None for the
    whole. speed: of `rate`. codec: name of the one that `lookup` reads.
    """

    option: str
    codebooks: tuple[int, ...] = ()
    frames: int | None = None
    speed: float | None = None
    codec: str | None = None


def parse_recipe(recipe: Recipe, codec: CompressionModel) -> list[Bend]:
    """Read a recipe for a codec.

    Raises:
        UserError: a value that is none, or asks for what the codec has not.
    """
    return [_parse(option, value, codec) for option, value in recipe]


def bend_codes(
    codes: torch.Tensor, bends: Sequence[Bend], cardinality: int, amount: float, generator: torch.Generator
) -> torch.Tensor:
    """Apply bends in their order.

    Args:
        codes: [B, K, F], on the CPU.
        bends: other codecs are numbered as `lookup_names` lists them.
        cardinality: of the codebooks.
        amount: share of frames, blocks or entries that each touches, 0 to 1.
        generator: what they draw from.
    Returns:
        Bent codes [B, K, F'] for a codec's `bent_decoder`; F' is F unless `rate` was among them.
    Raises:
        UserError: every codebook is dropped.
    """
    names = lookup_names(bends)
    for each in bends:
        books = [book - 1 for book in each.codebooks]
        match each:
            case Bend("drop"):
                codes = bend.drop(codes, books, amount, generator)
            case Bend("swap"):
                codes = bend.swap(codes, books[0], books[1], amount, generator)
            case Bend("shuffle" | "hold" | "stutter" | "reverse"):
                codes = getattr(bend, each.option)(codes, each.frames, books, amount, generator)
            case Bend("permute-codes"):
                codes = bend.permute_codes(codes, books, cardinality, amount, generator)
            case Bend("rate", speed=float(speed)):
                codes = bend.rate(codes, speed)
            case Bend("lookup", codec=str(name)):
                codes = bend.lookup(codes, names.index(name) + 1, cardinality, amount, generator)
            case _:
                raise AssertionError(each)
    if (codes == bend.HOLE).all():
        raise UserError("nothing is left to decode: every codebook is dropped; keep one, or give an --amount below 1")
    return codes


def lookup_names(bends: Sequence[Bend]) -> list[str]:
    """The other codecs that are looked up in, each once."""
    return list(dict.fromkeys(each.codec for each in bends if each.codec is not None))


def total_speed(bends: Sequence[Bend]) -> float:
    """How much faster the result is than its input."""
    speed = 1.0
    for each in bends:
        speed *= each.speed or 1.0
    return speed


def random_recipe(codebooks: int, generator: torch.Generator) -> tuple[Recipe, float]:
    """Draw a recipe of one to three operations that keep time, for a codec of so many codebooks → (recipe, amount)."""

    def pick(values: Sequence[str]) -> str:
        return values[int(torch.randint(len(values), (), generator=generator))]

    def some() -> str:
        """`@` and a part of the codebooks, or nothing, which means all."""
        number = 1 + int(torch.randint(codebooks, (), generator=generator))
        kept = torch.randperm(codebooks, generator=generator)[:number]
        return "" if len(kept) == codebooks else f"@{','.join(str(int(book) + 1) for book in kept.sort().values)}"

    options = ["shuffle", "hold", "stutter", "reverse", "permute-codes", *(["drop", "swap"] if codebooks > 1 else [])]
    count = int(torch.randint(1, 4, (), generator=generator))
    recipe: Recipe = []
    for which in torch.randperm(len(options), generator=generator)[:count].tolist():
        match options[which]:
            case "drop":
                value = pick([str(book + 1) for book in range(codebooks)])
            case "swap":
                first, second = (torch.randperm(codebooks, generator=generator)[:2] + 1).tolist()
                value = f"{first}:{second}"
            case "permute-codes":
                value = some().removeprefix("@") or "all"
            case option:
                value = pick(_DRAWN_LENGTHS[option]) + some()
        recipe.append((options[which], value))
    return recipe, float(pick(["0.3", "0.5", "0.7", "1"]))


def _parse(option: str, value: str, codec: CompressionModel) -> Bend:
    every = tuple(range(1, codec.num_codebooks + 1))
    if option == "lookup":
        return Bend(option, every, codec=value)
    if option == "rate":
        return Bend(option, every, speed=_read_speed(value))
    if option == "swap":
        pair = _read_books(option, value, value.split(":"), codec)
        if len(pair) != 2:
            raise UserError(f"--swap {value}: it takes two different codebooks, such as 1:{codec.num_codebooks}")
        return Bend(option, pair)
    if option in ("drop", "permute-codes"):
        whole = value == "all" and option != "drop"
        return Bend(option, every if whole else _read_books(option, value, value.split(","), codec))
    length, at, chosen = value.partition("@")
    books = _read_books(option, value, chosen.split(","), codec) if at else every
    if option == "reverse" and length == "all":
        return Bend(option, books)
    return Bend(option, books, frames=_read_frames(option, length, codec.frame_rate))


def _read_books(option: str, value: str, numbers: Sequence[str], codec: CompressionModel) -> tuple[int, ...]:
    """Codebooks in the order given, each once."""
    if not all(re.fullmatch(r"\d{1,4}", text) and 1 <= int(text) <= codec.num_codebooks for text in numbers):
        example = {"swap": "1:2", "drop": "2", "permute-codes": "2, 1,2 or all"}.get(option, "0.25@1,2")
        raise UserError(
            f"--{option} {value}: the codebooks of this codec are 1 to {codec.num_codebooks}; "
            f"name them, such as {example}"
        )
    return tuple(dict.fromkeys(int(text) for text in numbers))


def _read_frames(option: str, text: str, frame_rate: float) -> int:
    """A length in frames; one in seconds is rounded to frames."""
    in_frames = text.endswith("f")
    number = _read_number(text.removesuffix("f"))
    least = _LEAST_FRAMES[option]
    if number is None or not number > 0 or (in_frames and number % 1):
        raise UserError(f"--{option} {text}: it takes seconds, such as 0.25, or frames, such as 5f")
    frames = round(number if in_frames else number * frame_rate)
    if frames < least:
        raise UserError(
            f"--{option} {text}: a frame of this codec lasts {1 / frame_rate:g} s; give at least {least}f, "
            f"{least / frame_rate:g} s"
        )
    return frames


def _read_speed(value: str) -> float:
    speed = _read_number(value)
    low, high = SPEEDS
    if speed is None or not low <= speed <= high:
        raise UserError(f"--rate {value}: it takes a number from {low:g} to {high:g}; 2 is twice as fast, 0.5 half")
    return speed


def _read_number(text: str) -> float | None:
    """A plain decimal number; Python's float would take nan and 1_000 too."""
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d{0,9})?|\.\d{1,9}", text, re.ASCII) else None
