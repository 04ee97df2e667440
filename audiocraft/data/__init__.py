"""Files in, segments out: reading and writing audio, manifests, datasets.

Shapes, here and everywhere: B batch, C channels, T samples, K codebooks, F codec frames. Audio is float32 in [-1, 1],
time is in seconds, rates are in Hz.
"""

from ..utils.left_out import missing

# Loaded when asked for, so that `import audiocraft.data` costs nothing, and so that the command
# `python -m audiocraft.data.audio_dataset` does not find its own module imported already.
__getattr__ = missing(__name__, {"": "audio audio_dataset audio_utils info_audio_dataset music_dataset"})
