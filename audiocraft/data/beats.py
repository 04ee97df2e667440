"""Where the beats of files are, for segments that begin on one."""

import logging
import typing as tp

import numpy as np

from ..utils.rhythm import BeatGrid, beat_grid, onset_curve
from ..utils.segments import AudioMeta
from .audio import UnreadableAudio, audio_blocks

logger = logging.getLogger(__name__)

# Seconds, whole ones: the curves of blocks then join to that of the file but for one frame at each seam.
_BLOCK_SECONDS = 120


def find_grids(meta: tp.Sequence[AudioMeta]) -> dict[str, BeatGrid]:
    """The beats of each file that has a clear beat, by its path. Files are read whole, once.

    Files without a clear beat, and those that cannot be read, are not in it.
    """
    from tqdm import tqdm

    grids = {}
    # Nothing to see when it takes less than two seconds.
    for item in tqdm(meta, "Finding beats", unit="file", delay=2.0):
        try:
            blocks, rate = audio_blocks(item.path, _BLOCK_SECONDS)
            curves = [onset_curve(block, rate) for block in blocks]
        except (UnreadableAudio, OSError):
            continue  # told where it is drawn
        grid = beat_grid(np.concatenate(curves)) if curves else None
        if grid is not None and grid.is_clear:
            grids[item.path] = grid
    logger.info("Segments begin on the beat in %d of %d files; the others have no clear one", len(grids), len(meta))
    return grids
