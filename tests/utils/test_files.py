"""Files that are either whole or not there, also where a process is killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from audiocraft.errors import UserError
from audiocraft.utils.files import atomic_path, read_json

WRITER = f"""
import sys
from pathlib import Path
from {atomic_path.__module__} import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print(temporary.name, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    path, others = (
        tmp_path / "a[1].th",
        [tmp_path / name for name in (".a[1].original.th", ".a.~12345678.th", ".a[1].~x.th")],
    )
    for other in others:
        other.write_text("somebody's")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, **pipes) as dead, subprocess.Popen(command, **pipes) as alive:  # type: ignore
        left, held = (tmp_path / each.stdout.readline().decode().strip() for each in (dead, alive))
        assert left.is_file() and held.is_file()
        dead.kill()
        dead.wait()
        with atomic_path(path) as temporary:
            temporary.write_text("whole")
        assert not left.exists() and held.read_text() == "half", "only what nobody holds is removed"
        alive.communicate()
    assert path.read_text() == "half"
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_json_of_any_depth_is_refused_as_other_bad_json_is(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ("[" * 100_000, '{"a":' * 100_000, "{", "\x00"):
        path.write_text(text)
        with pytest.raises(ValueError):
            read_json(path)
    path.write_text('{"a": "ä"}', encoding="utf-8")
    assert read_json(path) == {"a": "ä"}


def test_a_message_has_an_end() -> None:
    assert str(UserError("a  b\nc")) == "a b c"
    long = str(UserError("begin " + "x" * 10**6 + " the way out"))
    assert len(long) < 3000 and long.startswith("begin") and long.endswith("the way out")
