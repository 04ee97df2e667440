"""Records of audio files and of segments cut from them."""

import typing as tp
from dataclasses import dataclass, fields


@dataclass
class BaseInfo:
    """A record that goes to and from plain dictionaries; unknown keys are passed over."""

    @classmethod
    def from_dict(cls, dictionary: dict) -> tp.Self:
        """The record of a dictionary; keys that are no fields are passed over.

        Raises:
            TypeError: a field without default is missing.
        """
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in dictionary.items() if key in known})

    def to_dict(self) -> dict[str, tp.Any]:
        """The fields by name, the values themselves."""
        # One level deep: a manifest's record is flat, and tensors must not be copied.
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(order=True)
class AudioMeta(BaseInfo):
    """One line of a manifest: `duration` in seconds, `sample_rate` in Hz, `amplitude` the largest absolute sample if it
    was measured, `weight` how often to draw the file relative to others (none counts as 1), `info_path` a JSON file
    about it if that does not lie beside it."""

    path: str
    duration: float
    sample_rate: int
    amplitude: float | None = None
    weight: float | None = None
    info_path: str | None = None


@dataclass(order=True)
class SegmentInfo(BaseInfo):
    """Where a training segment comes from. `seek_time` is in seconds; of `total_frames` samples the first `n_frames`
    are audio and the rest is padding; `sample_rate` and `channels` are those of the tensor, after conversion."""

    meta: AudioMeta
    seek_time: float
    n_frames: int
    total_frames: int
    sample_rate: int
    channels: int
