"""Command lines of the benchmarks."""

import argparse
import typing as tp


def positive(kind: type) -> tp.Callable[[str], tp.Any]:
    """A number above 0, for argparse."""

    def read_number(text: str) -> tp.Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    read_number.__name__ = kind.__name__  # argparse names it where the text is no number at all
    return read_number
