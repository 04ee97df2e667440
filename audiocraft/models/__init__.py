"""Models: the codec, the language model, MusicGen; how to build them from a config and load them from a file.

Names are imported when they are first used, so that each costs only what it needs.
"""

import typing as tp
from importlib import import_module

from ..utils.left_out import missing

if tp.TYPE_CHECKING:
    from . import builders, loaders
    from .encodec import CompressionModel, EncodecModel
    from .lm import LMModel
    from .musicgen import MusicGen

__all__ = ["CompressionModel", "EncodecModel", "LMModel", "MusicGen", "builders", "loaders"]

_HOME = {"CompressionModel": "encodec", "EncodecModel": "encodec", "LMModel": "lm", "MusicGen": "musicgen"}


def __getattr__(name: str) -> tp.Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    if name in ("builders", "loaders"):
        return import_module(f".{name}", __name__)
    return missing(__name__)(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
