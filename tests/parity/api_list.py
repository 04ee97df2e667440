"""The peer's public names, read from tests/golden/api.txt, and ours beside them."""

import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Parameters = tuple[tuple[str, str | None], ...]


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
    parameters: Parameters

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


def _parameters(line: str) -> Parameters:
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
        if name[0] not in ("self", "cls", "*"):
            out.append((name[0], default[1] if default else None))
    return tuple(out)


def ours(name: Name) -> Parameters | None:
    """The parameters of our object of that name (none for a property); None where we have none, or a stand-in."""
    try:
        found: Any = importlib.import_module(name.module)
        for part in name.path.split("."):
            if inspect.isclass(found) and _is_annotated(found, part):
                return ()  # an attribute that instances have
            found = inspect.getattr_static(found, part) if inspect.isclass(found) else getattr(found, part)
            if isinstance(found, type) and "left_out" in vars(found):
                return None
    except (ImportError, AttributeError):
        return None
    if name.kind == "property":
        return () if isinstance(found, (property, cached_property)) else None
    if name.kind in ("classmethod", "staticmethod") and type(found).__name__ != name.kind:
        return None
    found = getattr(found, "__func__", found)
    return tuple(_printed(inspect.signature(found))) if callable(found) else None


def _is_annotated(kind: type, attribute: str) -> bool:
    kinds = [parent for parent in kind.__mro__ if parent.__module__.startswith("audiocraft.")]
    return not hasattr(kind, attribute) and any(attribute in inspect.get_annotations(parent) for parent in kinds)


def _printed(signature: inspect.Signature) -> Iterator[tuple[str, str | None]]:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    for parameter in signature.parameters.values():
        if parameter.name not in ("self", "cls"):
            default = None if parameter.default is inspect.Parameter.empty else repr(parameter.default)
            yield stars.get(parameter.kind, "") + parameter.name, default


def differences(theirs: Parameters, mine: Parameters) -> set[str]:
    """Parameters that make a call written for the peer fail or mean something else here.

    Those of ours that come after theirs and have a default are no difference, nor is a tuple in place of a list, or
    None in place of an empty dict.
    """
    own = dict(mine)
    found = set()
    for name, default in theirs:
        if name not in own or (default is not None and _value(own[name]) != _value(default)):
            found.add(name)
    ordered = [name for name, _ in theirs]
    if any(name.startswith("*") for name in ordered):  # what follows can only be given by name
        ordered = ordered[: next(i for i, name in enumerate(ordered) if name.startswith("*"))]
    shared = [name for name in ordered if name in own]
    at = [list(own).index(name) for name in shared]
    found |= {name for name, before, after in zip(shared[1:], at, at[1:]) if before > after}
    last = max((place for place, name in zip(at, shared) if not name.startswith("*")), default=-1)
    for place, (name, default) in enumerate(mine):
        is_new = name not in dict(theirs) and not name.startswith("*")
        if is_new and (default is None or place < last):
            found.add(name)
    return found


def _value(default: str | None) -> str | None:
    return None if default is None else {"{}": "None"}.get(default, default).translate(str.maketrans("[]", "()"))
