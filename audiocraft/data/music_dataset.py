"""Segments of music with what a JSON file beside the audio says about it.

`track.wav` goes with `track.json`, one object with any of: title, artist, key, bpm, genre, moods, keywords,
description, name, instrument.
"""

import random
import typing as tp
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from ..errors import UserError
from ..modules.attributes import ConditioningAttributes, WavCondition
from ..utils.files import read_json
from ..utils.left_out import missing
from ..utils.segments import AudioMeta, SegmentInfo
from .info_audio_dataset import (
    AudioInfo,
    InfoAudioDataset,
    get_keyword,
    get_keyword_list,
    get_keyword_or_keyword_list,
    get_string,
)


@dataclass
class MusicInfo(AudioInfo):
    """A segment with texts about its music, each None if unknown, and itself as a waveform condition."""

    title: str | None = None
    artist: str | None = None
    key: str | None = None
    bpm: float | None = None
    genre: str | None = None
    moods: list[str] | None = None
    keywords: list[str] | None = None
    description: str | None = None
    name: str | None = None
    instrument: str | list[str] | None = None
    self_wav: WavCondition | None = None

    @property
    def has_music_meta(self) -> bool:
        """Whether anything is known about the music."""
        return any(getattr(self, name) is not None for name in _READERS)

    def to_condition_attributes(self) -> ConditioningAttributes:
        """Every text as `text` (lists joined by blanks, None if unknown), `self_wav` as `wav`."""
        out = ConditioningAttributes(text={name: _as_text(getattr(self, name)) for name in _READERS})
        if self.self_wav is not None:
            out.wav["self_wav"] = self.self_wav
        return out

    @staticmethod
    def attribute_getter(attribute: str) -> tp.Callable[[tp.Any], tp.Any] | None:
        """The function that makes a field's value out of what a JSON file says; None for fields that are none of the
        music's."""
        return _READERS.get(attribute)

    @classmethod
    def from_dict(cls, dictionary: dict, fields_required: bool = False) -> "MusicInfo":
        """From a segment's fields and those of the JSON file in one dictionary.

        Raises:
            UserError: `fields_required` and a field about the music is missing.
        """
        known = {field.name for field in fields(cls)}
        if fields_required and (missing := [name for name in _READERS if name not in dictionary]):
            raise UserError(
                f"the JSON file of {dictionary['meta'].path} lacks {', '.join(missing)};"
                " add them (null for unknown) or set dataset.info_fields_required=false"
            )
        values = {key: value for key, value in dictionary.items() if key in known}
        return cls(**{key: _READERS[key](value) if key in _READERS else value for key, value in values.items()})


def get_musical_key(value: tp.Any) -> str | None:
    """A key such as "C minor"; of several separated by semicolons the first."""
    return get_string(value.split(";")[0]) if isinstance(value, str) else None


def get_bpm(value: tp.Any) -> float | None:
    """Beats per minute from a number or a text; None for what is not a number above 0."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        bpm = float(value)
    except (TypeError, ValueError):
        return None
    return bpm if 0 < bpm < float("inf") else None


_READERS: dict[str, tp.Callable[[tp.Any], tp.Any]] = {
    "title": get_string,
    "artist": get_string,
    "key": get_musical_key,
    "bpm": get_bpm,
    "genre": get_keyword,
    "moods": get_keyword_list,
    "keywords": get_keyword_list,
    "description": get_string,
    "name": get_string,
    "instrument": get_keyword_or_keyword_list,
}
# What may be merged into a description.
_MERGED = ("key", "bpm", "genre", "moods", "instrument", "keywords")


def _as_text(value: tp.Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return " ".join(value) if isinstance(value, list) else f"{value:g}"


def augment_music_info_description(
    music_info: MusicInfo,
    merge_text_p: float = 0.0,
    drop_desc_p: float = 0.0,
    drop_other_p: float = 0.0,
    rng: random.Random | None = None,
) -> MusicInfo:
    """A copy whose description may take in the other texts, as "genre: jungle. bpm: 170", in random order.

    Args:
        music_info: stays as it is.
        merge_text_p: probability of merging at all.
        drop_desc_p: probability that a merged text leaves the original description out.
        drop_other_p: probability of leaving out each of the other texts.
        rng: where the draws come from; Python's global generator if None.
    """
    draw = rng or random
    if draw.random() >= merge_text_p:
        return music_info
    texts = [f"{name}: {text}" for name in _MERGED if (text := _as_text(getattr(music_info, name))) is not None]
    texts = [text for text in texts if draw.random() >= drop_other_p]
    draw.shuffle(texts)
    description = music_info.description
    # A description is only dropped for something else.
    if description is not None and not (texts and draw.random() < drop_desc_p):
        texts.insert(0, description.rstrip("."))
    return replace(music_info, description=". ".join(texts) or None)


class MusicDataset(InfoAudioDataset):
    """`AudioDataset` whose infos are `MusicInfo`.

    Args:
        info_fields_required: every file must have a JSON file with all fields. Off, a folder of plain audio will do.
        merge_text_p, drop_desc_p, drop_other_p: see `augment_music_info_description`.
        others: as `AudioDataset`.
    """

    def __init__(
        self,
        *args: tp.Any,
        info_fields_required: bool = False,
        merge_text_p: float = 0.0,
        drop_desc_p: float = 0.0,
        drop_other_p: float = 0.0,
        **kwargs: tp.Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.info_fields_required = info_fields_required
        self.merge_text_p = merge_text_p
        self.drop_desc_p = drop_desc_p
        self.drop_other_p = drop_other_p

    def make_info(self, index: int, wav: torch.Tensor, info: SegmentInfo) -> MusicInfo:
        music = MusicInfo.from_dict(self._read_json(info.meta) | info.to_dict(), self.info_fields_required)
        seed = self.item_seed(index)
        music = augment_music_info_description(
            music, self.merge_text_p, self.drop_desc_p, self.drop_other_p, None if seed is None else random.Random(seed)
        )
        if wav.is_floating_point():  # codes are no wave to be conditioned on
            music.self_wav = WavCondition(
                wav=wav[None],
                length=torch.tensor([info.n_frames]),
                sample_rate=[info.sample_rate],
                path=[info.meta.path],
                seek_time=[info.seek_time],
            )
        return music

    def _read_json(self, meta: AudioMeta) -> dict:
        path = Path(meta.info_path) if meta.info_path else Path(meta.path).with_suffix(".json")
        try:
            found = read_json(path)
            if not isinstance(found, dict):
                raise ValueError("it is no object")
            return found
        except FileNotFoundError as error:
            problem: str | None = None
            cause: Exception = error
        except (OSError, ValueError) as error:
            problem, cause = f"{path} is not valid JSON ({error})", error
        if self.info_fields_required:
            raise UserError(
                f"{problem or f'there is no {path}'}; mend it or set dataset.info_fields_required=false"
            ) from cause
        if problem is not None:
            self._tell(meta, f"{problem}; {meta.path} goes without texts")
        return {}


__getattr__ = missing(__name__)
