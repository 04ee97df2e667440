"""Folders as people have them: what is found, what is left out, what is said."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiocraft.data.audio_dataset import load_audio_meta, main
from audiocraft.data.scan import find_audio_files, scan_folder
from audiocraft.errors import UserError


def write(path, samples, rate=16000, subtype="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.asarray(samples), rate, subtype=subtype)


@pytest.fixture
def messy(tmp_path):
    """Two good files, a silent one, and everything that goes wrong."""
    folder = tmp_path / "music"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    write(folder / "good.wav", noise)
    write(folder / "sub/deep/Loud.FLAC", np.clip(noise * 3, -0.99, 0.99))
    write(folder / "silent.wav", np.zeros(8000))
    write(folder / "tick.wav", [0.5])
    write(folder / "short.wav", noise[:1500])
    write(folder / "none.wav", np.zeros(0))
    write(folder / "nan.wav", [*noise, float("nan")], subtype="FLOAT")
    write(folder / "absurd.wav", [*noise, 1e29], subtype="FLOAT")
    (folder / "zero.wav").touch()
    (folder / "text.wav").write_text("this is a text\n" * 10)
    (folder / "._good.wav").write_text("what a Mac leaves behind")
    (folder / "good.json").write_text("{}")
    (folder / "notes.txt").write_text("notes")
    (folder / "loop").symlink_to(folder)
    return folder


EXPECTED = {
    "absurd.wav": "its samples reach 1.0e+29 times full scale",
    "nan.wav": "it holds NaN or infinite samples",
    "none.wav": "it holds no samples",
    "short.wav": "0.0938 s is under 0.1 s",
    "text.wav": "it is not an audio file",
    "tick.wav": "6.25e-05 s is under 0.1 s",
    "zero.wav": "the file is empty",
}


@pytest.mark.parametrize("workers", [0, 3])
def test_report(messy, workers):
    report = scan_folder(messy, complete=True, workers=workers)
    names = ["good.wav", "silent.wav", "sub/deep/Loud.FLAC"]
    assert [item.path for item in report.meta] == [str(messy / name) for name in names]
    assert [item.amplitude for item in report.meta] == pytest.approx([0.5, 0.0, 0.99], abs=1e-3)
    assert {path.removeprefix(f"{messy}/"): reason for path, reason in report.skipped} == EXPECTED
    assert report.silent == [str(messy / "silent.wav")]
    assert dict(report.other) == {".txt": 1}
    text = "\n".join(report.lines())
    assert "3 audio files" in text and "skipped 7 files" in text and "1 .txt" in text and "silent.wav" in text


def test_short_files_where_they_are_wanted(messy):
    report = scan_folder(messy, shortest=0)
    assert {Path(item.path).stem for item in report.meta} == {"good", "silent", "Loud", "tick", "short"}
    assert dict(report.skipped)[str(messy / "none.wav")] == "it holds no samples"


def test_minimal_and_endings(messy):
    found = find_audio_files(messy, resolve=False)
    assert len(found) == 3 and {item.amplitude for item in found} == {None}
    assert [item.path for item in find_audio_files(messy, exts=[".flac"])] == [str(messy / "sub/deep/Loud.FLAC")]


def test_files_that_were_cut_off(tmp_path):
    """A header promises more than there is: decoding finds out."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 40000)
    soundfile.write(tmp_path / "x.mp3", noise, 16000, bitrate_mode="CONSTANT")
    data = (tmp_path / "x.mp3").read_bytes()
    (tmp_path / "x.mp3").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.mp3").write_text("no audio")
    report = scan_folder(tmp_path, complete=True)
    assert [item.duration for item in report.meta] == pytest.approx([1.25], abs=0.1)
    assert report.skipped == [(str(tmp_path / "text.mp3"), "it is not an audio file")]


def test_command(messy, monkeypatch, capsys):
    monkeypatch.chdir(messy.parent)
    assert main(["music", "egs/mine/data.jsonl.gz", "--complete", "--workers", "2"]) == 0
    out = capsys.readouterr().out
    assert all(f"music/{name}: {reason}" in out for name, reason in EXPECTED.items())
    assert "written to egs/mine/data.jsonl.gz" in out
    meta = load_audio_meta("egs/mine/data.jsonl.gz", resolve=False)
    assert [item.path for item in meta] == ["music/good.wav", "music/silent.wav", "music/sub/deep/Loud.FLAC"]
    assert main(["music", "egs/mine/data.jsonl", "--resolve"]) == 0
    assert load_audio_meta("egs/mine/data.jsonl", resolve=False)[0].path == str(messy / "good.wav")


@pytest.mark.parametrize(
    "files, message",
    [
        (None, "does not exist; give a folder"),
        ([], "is empty; put audio files there"),
        (["a.txt", "b.pdf"], "there is no audio in {folder}, only files with .txt, .pdf"),
        (["a.wav", "b.mp3"], "none of the 2 audio files in {folder} can be used ({folder}/a.wav: the file is empty)"),
        (["a.wav"], "the only audio file in {folder} cannot be used ({folder}/a.wav: the file is empty)"),
    ],
)
def test_folders_without_audio(tmp_path, capsys, files, message):
    folder = tmp_path / "music"
    if files is not None:
        folder.mkdir()
        for name in files:
            (folder / name).touch()
    (tmp_path / "data.jsonl").write_text("earlier manifest")
    assert main([str(folder), str(tmp_path / "data.jsonl")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message.format(folder=folder) in error
    assert (tmp_path / "data.jsonl").read_text() == "earlier manifest"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "x.wav").touch()
    with pytest.raises(UserError, match="is a file, not a folder"):
        scan_folder(tmp_path / "x.wav")


def test_module_command_imports_little(messy):
    """`python -m` works, and neither it nor the package loads the audio libraries before they are needed."""
    code = (
        "import sys, audiocraft.data.audio, audiocraft.data.audio_dataset, audiocraft.data.music_dataset;"
        "print({'soundfile', 'av', 'julius', 'pyloudnorm', 'scipy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
    command = [sys.executable, "-W", "error", "-m", "audiocraft.data.audio_dataset", str(messy), str(messy / "d.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False) and "3 audio files" in done.stdout


def test_a_name_that_is_no_text_is_reported(tmp_path, capsys):
    write(tmp_path / "in/good.wav", np.zeros(8000))
    name = os.fsencode(tmp_path / "in") + b"/caf\xe9.wav"
    try:
        Path(os.fsdecode(name)).write_bytes((tmp_path / "in/good.wav").read_bytes())
    except OSError:
        pytest.skip("this disk takes no such names")
    assert main([str(tmp_path / "in"), str(tmp_path / "data.jsonl")]) == 0
    assert "its name is not valid UTF-8; rename it" in capsys.readouterr().out.encode().decode()
    assert [item.path for item in load_audio_meta(tmp_path / "data.jsonl")] == [str(tmp_path / "in/good.wav")]


def test_ctrl_c_while_looking_writes_nothing(messy, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("audiocraft.data.scan.open_audio", interrupted)
    assert main([str(messy), str(tmp_path / "data.jsonl")]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "stopped; no manifest was written"
    assert not (tmp_path / "data.jsonl").exists()


def test_a_manifest_where_no_file_can_be(messy, tmp_path, capsys):
    (tmp_path / "folder.jsonl").mkdir()
    for place in ("folder.jsonl", "music/good.wav/data.jsonl"):
        assert main([str(messy), str(tmp_path / place)]) == 2
        assert "choose another place" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.glob(".*"))


def test_what_may_not_be_read_is_reported(messy, monkeypatch):
    walk, access = os.walk, os.access

    def closed(root, onerror, followlinks):
        onerror(PermissionError(13, "Permission denied", str(messy / "private")))
        return walk(root, onerror=onerror, followlinks=followlinks)

    monkeypatch.setattr(os, "walk", closed)
    monkeypatch.setattr(os, "access", lambda path, mode: "silent" not in str(path) and access(path, mode))
    report = scan_folder(messy)
    assert (str(messy / "private"), "the folder cannot be read (Permission denied)") in report.skipped
    assert (str(messy / "silent.wav"), "permission denied") in report.skipped
    empty = messy / "nothing"
    empty.mkdir()
    with pytest.raises(UserError, match=r"private: the folder cannot be read .*; change its permissions"):
        scan_folder(empty)


def test_a_link_to_itself_is_reported(messy):
    (messy / "round.wav").symlink_to("round.wav")
    skipped = dict(scan_folder(messy, resolve=True).skipped)
    assert skipped[str(messy / "round.wav")] == "there is no such file"
