"""Files in, segments out: reading and writing audio, manifests, datasets.

Shapes, here and everywhere: B batch, C channels, T samples, K codebooks, F codec frames. Audio is float32 in [-1, 1],
time is in seconds, rates are in Hz.
"""

import importlib
from types import ModuleType

_MODULES = ("audio", "audio_dataset", "audio_utils", "info_audio_dataset", "music_dataset")
__all__ = list(_MODULES)


def __getattr__(name: str) -> ModuleType:
    # Loaded when asked for, so that `import audiocraft.data` costs nothing, and so that the command
    # `python -m audiocraft.data.audio_dataset` does not find its own module imported already.
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
