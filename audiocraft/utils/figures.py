"""Figures as files."""

import io
import typing as tp
from pathlib import Path

from .files import atomic_path

if tp.TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_png(figure: "Figure", out: str | Path, dpi: int = 100) -> None:
    """Write a figure as a PNG with a palette, which is a third of the size: noise, as in spectrograms, hardly
    compresses.

    Raises:
        UserError: `out` cannot be written.
    """
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    with atomic_path(out) as file:
        Image.open(buffer).convert("RGB").quantize(96).save(file, format="PNG", optimize=True)
