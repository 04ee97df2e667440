"""micro-musicgen: train a very small MusicGen from scratch and play with it at once.

Shape letters used in every docstring of this package:
B batch, C channels, T samples, K codebooks, F codec frames, S pattern steps, D model width.

Importing this package imports neither torch nor numpy; the rooms below do, when they are entered.
"""

from .utils.left_out import missing, stand_for_modules

__version__ = "0.1.0"

stand_for_modules()
__getattr__ = missing(__name__, {"": "data models modules"})
