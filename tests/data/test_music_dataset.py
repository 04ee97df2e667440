"""Texts about music: from JSON files to conditions."""

import json
import random

import numpy as np
import pytest
import soundfile
import torch

from audiocraft.data.audio_dataset import AudioMeta
from audiocraft.data.info_audio_dataset import AudioInfo, InfoAudioDataset, get_keyword_list, get_string
from audiocraft.data.music_dataset import (
    MusicDataset,
    MusicInfo,
    augment_music_info_description,
    get_bpm,
    get_musical_key,
)
from audiocraft.errors import UserError

RATE = 16000
TEXTS = {
    "title": " Ridge ",
    "artist": None,
    "key": "F minor; C major",
    "bpm": "172.5",
    "genre": "Jungle",
    "moods": ["Dark", "driving"],
    "keywords": "amen, Sub bass ,",
    "description": "Chopped breaks over sub bass.",
    "name": "none",
    "instrument": ["Drums", "bass"],
}
ARGS = {"segment_duration": 0.5, "sample_rate": RATE, "channels": 1, "return_info": True, "shuffle": False}


@pytest.fixture
def meta(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(6000, 0.5), RATE)
    return AudioMeta(str(tmp_path / "a.wav"), 6000 / RATE, RATE)


def info(meta, **texts):
    segment = {"meta": meta, "seek_time": 0.0, "n_frames": 6, "total_frames": 8, "sample_rate": RATE, "channels": 1}
    return MusicInfo.from_dict(segment | texts)


def test_conditions(meta, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(TEXTS | {"sample_rate": 1, "comment": "not ours"}))
    wav, music = MusicDataset([meta], **ARGS, info_fields_required=True)[0]
    assert music.has_music_meta and music.sample_rate == RATE
    conditions = music.to_condition_attributes()
    assert conditions.text == {
        "title": "Ridge",
        "artist": None,
        "key": "F minor",
        "bpm": "172.5",
        "genre": "jungle",
        "moods": "dark driving",
        "keywords": "amen sub bass",
        "description": "Chopped breaks over sub bass.",
        "name": None,
        "instrument": "drums bass",
    }
    own = conditions.wav["self_wav"]
    assert torch.equal(own.wav[0], wav) and own.length.tolist() == [music.n_frames] and music.n_frames < 8000
    assert own.path == [meta.path] and own.seek_time == [music.seek_time] and own.sample_rate == [RATE]


def test_info_path_comes_first(meta, tmp_path):
    (tmp_path / "a.json").write_text('{"genre": "techno"}')
    (tmp_path / "other.json").write_text('{"genre": "jungle"}')
    meta.info_path = str(tmp_path / "other.json")
    assert MusicDataset([meta], **ARGS)[0][1].genre == "jungle"


def test_without_texts(meta, tmp_path, caplog):
    made = MusicDataset([meta], **ARGS)
    _, music = made[0]
    assert not music.has_music_meta and not caplog.messages
    assert set(music.to_condition_attributes().text.values()) == {None}
    (tmp_path / "a.json").write_text('{"genre": ')
    assert made[0][1].genre is None and made[1][1].genre is None
    assert len(caplog.messages) == 1 and "a.json is not valid JSON" in caplog.messages[0]


@pytest.mark.parametrize(
    "content, message",
    [(None, "there is no .*a.json"), ("[1]", "is not valid JSON"), ('{"genre": "x"}', "lacks title, artist, key, bpm")],
)
def test_texts_required(meta, tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=f"{message}.*dataset.info_fields_required=false"):
        MusicDataset([meta], **ARGS, info_fields_required=True)[0]


def test_plain_infos(meta):
    _, plain = InfoAudioDataset([meta], **ARGS)[0]
    assert type(plain) is AudioInfo and plain.audio_tokens is None
    assert not plain.to_condition_attributes().text


def test_merging(meta):
    music = info(meta, **{key: TEXTS[key] for key in ("description", "bpm", "genre", "moods")})
    parts = {"Chopped breaks over sub bass", "bpm: 172.5", "genre: jungle", "moods: dark driving"}

    def merged(seed=0, **kwargs):
        return augment_music_info_description(
            music, **{"merge_text_p": 1.0} | kwargs, rng=random.Random(seed)
        ).description

    assert merged(merge_text_p=0.0) == music.description == TEXTS["description"]
    texts = [merged(seed) for seed in range(10)]
    assert {frozenset(text.split(". ")) for text in texts} == {frozenset(parts)}
    assert len(set(texts)) > 1 and texts[0] == merged(0)
    assert frozenset(merged(drop_desc_p=1.0).split(". ")) == parts - {"Chopped breaks over sub bass"}
    # Nothing else left: the description stays.
    assert merged(drop_desc_p=1.0, drop_other_p=1.0) == "Chopped breaks over sub bass"
    some = [len(merged(seed, drop_other_p=0.5).split(". ")) for seed in range(200)]
    assert 2.2 < np.mean(some) < 2.8
    assert augment_music_info_description(info(meta), merge_text_p=1.0).description is None


def test_merging_is_fixed_by_the_item(meta, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(TEXTS))
    made = [MusicDataset([meta], **ARGS, merge_text_p=0.5, drop_desc_p=0.5, drop_other_p=0.5) for _ in range(2)]
    texts = [[dataset[index][1].description for index in range(10)] for dataset in made]
    assert texts[0] == texts[1] and len(set(texts[0])) > 3


def test_loose_values():
    assert [get_bpm(value) for value in (170, "170", "fast", None, 0, float("nan"), True, [1])] == [170, 170] + [
        None
    ] * 6
    assert [get_musical_key(value) for value in (" Am ", "none", "", None, 3)] == ["Am", None, None, None, None]
    assert get_keyword_list(" , none") is None and get_keyword_list(["A", 3, " b"]) == ["a", "b"]
    assert get_string("nan") is None and get_string(3) is None
