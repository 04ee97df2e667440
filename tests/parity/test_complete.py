"""Every golden set has a test in this folder that reads it."""

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_golden_set_is_read() -> None:
    tests = "\n".join(path.read_text() for path in HERE.glob("*.py") if path != Path(__file__))
    sets = sorted(path.name for path in (HERE.parent / "golden").iterdir())
    assert len(sets) >= 13
    for name in sets:
        assert re.search(rf"""["/]{re.escape(name)}["/]""", tests), f"no test in {HERE.name}/ reads {name}"
