"""Segments without conditions, and readers for the loose values found in JSON files about music."""

import typing as tp
from dataclasses import dataclass

import torch

from ..modules.attributes import ConditioningAttributes, SegmentWithAttributes
from ..utils.left_out import missing
from ..utils.segments import AudioMeta, SegmentInfo
from .audio_dataset import AudioDataset


@dataclass
class AudioInfo(SegmentWithAttributes):
    """A segment without conditions. `audio_tokens` [K, F] are codes that a peer's dataset gives along."""

    audio_tokens: torch.Tensor | None = None

    def to_condition_attributes(self) -> ConditioningAttributes:
        return ConditioningAttributes()


class InfoAudioDataset(AudioDataset):
    """`AudioDataset` whose infos are `AudioInfo`; same arguments."""

    def __init__(self, meta: list[AudioMeta], **kwargs: tp.Any) -> None:
        super().__init__(meta, **kwargs)

    def make_info(self, index: int, wav: torch.Tensor, info: SegmentInfo) -> AudioInfo:
        return AudioInfo(**info.to_dict())


def get_string(value: tp.Any) -> str | None:
    """A text without blanks around it; None for nothing, for the word None, and for what is no text."""
    if not isinstance(value, str) or value.strip().lower() in ("", "none", "null", "nan"):
        return None
    return value.strip()


def get_keyword(value: tp.Any) -> str | None:
    """A text as `get_string`, in small letters."""
    text = get_string(value)
    return None if text is None else text.lower()


def get_keyword_list(values: tp.Any) -> list[str] | None:
    """Keywords from a list, or from a text that separates them by commas; None if there are none."""
    parts = values.split(",") if isinstance(values, str) else values if isinstance(values, (list, tuple)) else []
    keywords = [keyword for part in parts if (keyword := get_keyword(part)) is not None]
    return keywords or None


def get_keyword_or_keyword_list(value: tp.Any) -> str | list[str] | None:
    """A list as `get_keyword_list`, anything else as `get_keyword`."""
    return get_keyword_list(value) if isinstance(value, (list, tuple)) else get_keyword(value)


__getattr__ = missing(__name__)
