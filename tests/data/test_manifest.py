"""Manifests that are missing, damaged, moved, or fine."""

import gzip
import json

import pytest

from audiocraft.data.manifest import AudioMeta, find_manifest, load_audio_meta, save_audio_meta
from audiocraft.errors import UserError

GOOD = {"path": "a.wav", "duration": 1.0, "sample_rate": 32000}


@pytest.mark.parametrize("name", ["data.jsonl", "data.jsonl.gz"])
def test_round_trip(tmp_path, name):
    meta = [AudioMeta("/x/a.wav", 1.5, 44100), AudioMeta("/x/ü b.wav", 2.0, 8000, 0.5, 3.0, "/x/b.json")]
    save_audio_meta(tmp_path / name, meta)
    first = (tmp_path / name).read_bytes()
    assert load_audio_meta(tmp_path / name, resolve=False) == meta
    assert find_manifest(tmp_path) == find_manifest(tmp_path / name) == tmp_path / name
    save_audio_meta(tmp_path / name, meta)
    assert (tmp_path / name).read_bytes() == first


def test_unknown_keys_are_passed_over(tmp_path):
    (tmp_path / "data.jsonl").write_text(json.dumps(GOOD | {"later": 1}) + "\n\n")
    assert load_audio_meta(tmp_path / "data.jsonl", resolve=False) == [AudioMeta("a.wav", 1.0, 32000)]


@pytest.mark.parametrize(
    "line",
    [
        '{"path": "a.wav", "dura',
        "[]",
        "7",
        json.dumps({"path": "a.wav"}),
        json.dumps(GOOD | {"duration": "long"}),
        json.dumps(GOOD | {"duration": -1}),
        json.dumps(GOOD | {"duration": float("inf")}),
        json.dumps(GOOD | {"sample_rate": 0}),
        json.dumps(GOOD | {"path": None}),
        json.dumps(GOOD | {"weight": -1}),
    ],
)
def test_broken_line(tmp_path, line):
    path = tmp_path / "data.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n")
    with pytest.raises(UserError, match=r"line 2 of .*data.jsonl does not describe .* make the manifest anew"):
        load_audio_meta(path)


def test_what_editors_and_names_put_into_it(tmp_path):
    """A byte order mark, Windows line ends, and a name with a line separator in it, unescaped."""
    line = json.dumps(GOOD | {"path": "a\u2028b.wav"}, ensure_ascii=False)
    (tmp_path / "data.jsonl").write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n{line}\r\n".encode())
    found = load_audio_meta(tmp_path / "data.jsonl", resolve=False)
    assert [item.path for item in found] == ["a\u2028b.wav"] * 2


def test_missing_empty_and_damaged(tmp_path):
    with pytest.raises(UserError, match=r"there is no manifest .*egs/data.jsonl; make it with python -m"):
        find_manifest(tmp_path / "egs")
    with pytest.raises(UserError, match=r"there is no manifest data.jsonl in .*; make it with python -m"):
        find_manifest(tmp_path)
    with pytest.raises(UserError, match=r"there is no manifest .*x.jsonl; make it"):
        load_audio_meta(tmp_path / "x.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="lists no files"):
        load_audio_meta(tmp_path / "empty.jsonl")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(GOOD).encode())[:-12])
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    for name in ("cut.jsonl.gz", "binary.jsonl"):
        with pytest.raises(UserError, match="is damaged"):
            load_audio_meta(tmp_path / name)


@pytest.mark.parametrize(
    "line",
    [
        json.dumps(GOOD | {"info_path": 7}),
        json.dumps(GOOD | {"info_path": ["a"]}),
        json.dumps(GOOD | {"sample_rate": float("inf")}),
        json.dumps(GOOD | {"path": "a" * 5000}),
        "[" * 100_000,
    ],
    ids=["number", "list", "infinite", "long", "nested"],
)
def test_damaged_lines_are_one_line(tmp_path, line):
    (tmp_path / "it's mine.jsonl").write_text(line)
    with pytest.raises(UserError, match=r"FOLDER '.*it'\"'\"'s mine\.jsonl'$") as error:
        load_audio_meta(tmp_path / "it's mine.jsonl")
    assert "\n" not in str(error.value)


def test_paths(tmp_path, monkeypatch):
    """From the start folder first, then from the manifest's; absolute in the end."""
    for name in ("start/both.wav", "start/here.wav", "egs/both.wav", "egs/there.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "start")
    manifest = tmp_path / "egs/data.jsonl"
    names = ["both.wav", "there.wav", "here.wav", "gone.wav"]
    manifest.write_text("\n".join(json.dumps(GOOD | {"path": name}) for name in names))
    found = [item.path for item in load_audio_meta("../egs/data.jsonl")]
    assert found[:3] == [str(tmp_path / name) for name in ("start/both.wav", "egs/there.wav", "start/here.wav")]
    assert found[3].endswith("gone.wav")
    manifest.write_text(json.dumps(GOOD | {"path": "gone.wav"}))
    with pytest.raises(UserError, match=r"none of the 1 files listed .* exist \(the first is .*gone.wav"):
        load_audio_meta(manifest)


def test_links_are_followed_on_request(tmp_path):
    (tmp_path / "real.wav").touch()
    (tmp_path / "link.wav").symlink_to(tmp_path / "real.wav")
    (tmp_path / "data.jsonl").write_text(json.dumps(GOOD | {"path": "link.wav"}))
    assert load_audio_meta(tmp_path / "data.jsonl")[0].path == str(tmp_path / "link.wav")
    assert load_audio_meta(tmp_path / "data.jsonl", fast=False)[0].path == str(tmp_path / "real.wav")
