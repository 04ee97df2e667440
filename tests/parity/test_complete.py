"""Every golden set, every file of it and every array in it has a test in this folder that reads it."""

import ast
import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from safetensors.torch import load_file

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"

# Read as a whole, or through the names that another file gives.
READ_WHOLE = (
    "audio/manifest_weighted.jsonl",  # named in dataset.json
    "audio/segments.safetensors*",
    "audio/wavs/*",  # named in audio.json and the manifests
    "codec_hf/config.json*",
    "codec_hf/model.safetensors*",
    "lm_text/t5/*",
    "losses/msstftd.safetensors*",
)
NOT_READ = {
    "*/meta.json*": "sizes that the other files have, and how near the peer came to another code",
    "codec_*/io.safetensors: margin": "says where a wrong code could be excused; none is wrong",
    "lm_rope/io.safetensors: *_asis": "what the peer plays where it rotates to the wrong positions; see the page",
    "audio/io.safetensors: norm_loud_loudness": "the peer measures a clipped signal there; see the page",
    "losses/losses.json: mrstft_shape": "the peer's loss has shape [1]; ours is a number, as its other losses are",
    "losses/losses.json: sisnr_segment_none": "the peer stops with an assertion",
}


def names_in_tests() -> tuple[set[str], list[str]]:
    """Texts in the tests of this folder, and patterns of those with something to fill in, as f"logits_{scale}"."""
    texts, patterns = set(), []
    for path in HERE.glob("*.py"):
        if path == Path(__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts |= {node.value, *node.value.split("/")}
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
                if sum(len(str(part)) for part in parts if part is not None) > 3:
                    patterns.append("".join(".*" if part is None else re.escape(str(part)) for part in parts))
    return texts, patterns


def golden_names() -> Iterator[tuple[str, str]]:
    """What it is, and its own name: of the sets, the files, their arrays, and the first keys of JSON."""
    for path in sorted(GOLDEN.rglob("*")):
        place = str(path.relative_to(GOLDEN))
        yield place, path.name
        if path.suffix == ".safetensors":
            yield from ((f"{place}: {key}", key) for key in load_file(path))
        elif path.suffix == ".json" and isinstance(content := json.loads(path.read_text()), dict):
            yield from ((f"{place}: {key}", key) for key in content)


def test_every_number_is_read() -> None:
    texts, patterns = names_in_tests()
    assert len(texts) > 200 and len(patterns) > 5
    assert len(list(GOLDEN.iterdir())) >= 13
    used = set()
    for place, name in golden_names():
        if name in texts or any(re.fullmatch(pattern, name) for pattern in patterns):
            continue
        excuses = {pattern for pattern in (*READ_WHOLE, *NOT_READ) if fnmatchcase(place, pattern)}
        assert excuses, f"no test in {HERE.name}/ reads {place}"
        used |= excuses
    assert used == {*READ_WHOLE, *NOT_READ}, "an excuse that nothing needs"
