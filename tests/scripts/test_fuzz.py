"""Damaged files of every kind are read or refused; a short form of what `scripts/fuzz.py` is for."""

import json
import pickle
import random
import sys
from pathlib import Path

import fuzz
import pytest
import torch
from reliability import damage, entries, inputs

INPUTS = 24  # of each kind


def test_some_inputs_of_each_kind(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        fuzz.main(["--minutes", "0", "--least", str(INPUTS), "--out", str(tmp_path / "record.json")])
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["faults"] == [] and end.value.code == 0
    assert record["inputs"].keys() == set(fuzz.KINDS) == set(inputs.MAKERS)
    for counts in record["inputs"].values():
        assert counts["all"] == INPUTS == counts["read"] + counts["refused"]
        assert counts["read"] and counts["refused"], "the damage is too great, or too small, to tell anything"


def test_a_seed_gives_the_same_bytes_again() -> None:
    content = {"a": [1, {"b": "text"}], "c": None}
    for seed in range(50):
        twice = [
            (
                damage.data(b"RIFF" + bytes(range(200)), random.Random(seed), [b"other", b"things"]),
                damage.text("a: 1\nb:\n  - x\n", random.Random(seed)),
                repr(damage.tree(json.loads(json.dumps(content)), random.Random(seed))),
            )
            for _ in range(2)
        ]
        assert twice[0] == twice[1]


def test_faults_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the entry functions must never do, done here."""
    good = tmp_path / "good"
    for name in ("songs", "takes"):
        (good / name).mkdir(parents=True)
        (good / name / "0.json").write_text("{}")
    eater = entries.Eater(good, tmp_path / "work")
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(entries, "make", lambda kind, seed, good, folder, canary: (kind, folder))
    evil = pickle.dumps(inputs.Evil(random.Random(0), eater.canary))

    def spoil(folder: Path) -> None:
        (folder.parent / "beside" / "0.json").write_text("[]")

    ways = {
        "a traceback": (lambda folder: [][1], "IndexError"),
        "code": (lambda folder: pickle.loads(evil), "code was run"),
        "damage beside": (spoil, "files were changed"),
        "damage far off": (lambda folder: (good / "takes" / "0.json").write_text("[1]"), "files were changed"),
        "litter": (lambda folder: (folder / "new").touch(), "files were changed"),
        "a message of many lines": (lambda folder: torch.load(folder), "IsADirectoryError"),
    }
    eater.entries |= {name: act for name, (act, _) in ways.items()}
    for name, (_, says) in ways.items():
        found = eater.feed(name, 0)
        assert found["outcome"] == "fault" and says in found["says"], name
    eater.entries["nothing"] = lambda folder: None
    assert eater.feed("nothing", 0) == {"entry": "nothing", "outcome": "read"}


def test_a_process_that_dies_or_hangs_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "reliability_stub.py"
    room.write_text(
        "import os, signal, sys\nprint('ready', flush=True)\nfor line in sys.stdin:\n"
        "    number = {'dies': signal.SIGSEGV, 'hangs': signal.SIGPROF}.get(line.split()[0], 0)\n"
        '    os.kill(os.getpid(), number)\n    print(\'{"outcome": "read"}\', flush=True)\n'
    )
    monkeypatch.setattr(fuzz, "room", lambda *_: {"args": [sys.executable, str(room)]})
    fed = fuzz.Fed(tmp_path / "good", tmp_path / "fed")
    assert fed.feed("lives", 0) == {"outcome": "read"}
    assert fed.feed("dies", 0)["says"] == "the process died of signal 11"
    assert fed.feed("hangs", 0)["says"] == "it hangs"
    assert fed.feed("lives", 0) == {"outcome": "read"}
    fed.close()
