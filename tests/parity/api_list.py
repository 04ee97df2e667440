"""The peer's public names, read from tests/golden/api.txt, and ours beside them."""

import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Name:
    """One public name of the peer.

    Attributes:
        module: where it is.
        path: its name there, `Class`, `Class.method` or `function`.
        kind: `class`, `function`, `property`, `classmethod` or `staticmethod`.
        parameters: (name, default), the default as Python prints it or None; `*` and `**` belong to the name.
    """

    module: str
    path: str
    kind: str
    parameters: tuple[tuple[str, str | None], ...]

    def __str__(self) -> str:
        return f"{self.module.removeprefix('audiocraft.')}.{self.path}"


def read_api(path: Path) -> list[Name]:
    """All names of the list but those with a leading underscore, which nobody was promised."""
    names, module, owner = [], "", ""
    for line in path.read_text().splitlines():
        if line.startswith("audiocraft."):
            module = line.strip()
        elif match := re.match(r"  (class )?(\w+)\(", line):
            owner = match[2] if match[1] else ""
            kind = "class" if match[1] else "function"
            names.append(Name(module, match[2], kind, _parameters(line)))
        elif match := re.match(r"    \.(\w+)", line):
            ending = re.search(r"\((property|classmethod|staticmethod)\)$", line)
            kind = ending[1] if ending else "function"
            names.append(Name(module, f"{owner}.{match[1]}", kind, () if kind == "property" else _parameters(line)))
    return [name for name in names if not any(part.startswith("_") for part in name.path.split("."))]


def _parameters(line: str) -> tuple[tuple[str, str | None], ...]:
    """(name, default) of a signature as `inspect` prints it."""
    text = line[line.index("(") + 1 :]
    parts, depth, part, quoted = [], 0, "", False
    for character in text:
        quoted ^= character == "'"
        depth += (character in "([{<") - (character in ")]}>") if not quoted else 0
        if depth < 0:
            break
        if character == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += character
    parts.append(part)
    out = []
    for part in filter(None, map(str.strip, parts)):
        name = re.match(r"[*\w]+", part)
        assert name, part
        default = re.search(r"(?:^\w+=| = )(.*)$", part)
        if name[0] not in ("self", "cls"):
            out.append((name[0], default[1] if default else None))
    return tuple(out)


def ours(name: Name) -> tuple[Any, tuple[tuple[str, str | None], ...]] | None:
    """Our object of that name, and its parameters as in `Name`; None where we have none."""
    try:
        found: Any = importlib.import_module(name.module)
        for part in name.path.split("."):
            found = inspect.getattr_static(found, part) if inspect.isclass(found) else getattr(found, part)
    except (ImportError, AttributeError):
        return None
    if isinstance(found, property):
        return found, ()
    if isinstance(found, (classmethod, staticmethod)):
        found = found.__func__
    if not callable(found):
        return found, ()
    return found, tuple(_printed(inspect.signature(found)))


def _printed(signature: inspect.Signature) -> Iterator[tuple[str, str | None]]:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    for parameter in signature.parameters.values():
        if parameter.name not in ("self", "cls"):
            default = None if parameter.default is inspect.Parameter.empty else repr(parameter.default)
            yield stars.get(parameter.kind, "") + parameter.name, default
