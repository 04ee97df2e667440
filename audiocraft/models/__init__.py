"""Models: the codec, the language model, MusicGen; how to build them from a config and load them from a file.

Names are imported when they are first used, so that each costs only what it needs.
"""

import typing as tp

from ..utils.left_out import missing

if tp.TYPE_CHECKING:
    from . import builders, loaders
    from .encodec import CompressionModel, EncodecModel
    from .lm import LMModel
    from .musicgen import MusicGen

__all__ = ["CompressionModel", "EncodecModel", "LMModel", "MusicGen", "builders", "loaders"]
_FACES = {
    "": "builders loaders",
    "encodec": "CompressionModel EncodecModel",
    "lm": "LMModel",
    "musicgen": "MusicGen",
}
__getattr__ = missing(__name__, _FACES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
