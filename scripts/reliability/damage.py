"""Ways to damage what is good: bytes, texts, and the values in nested lists and dicts. All drawn from a `Random`."""

import copy
import random
import struct
import typing as tp

EDGES = (0, 1, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
DEEP = "[" * 90 + "]" * 90
TEXTS: tuple[str, ...] = ("", " ", "x", "0", "-1", "1e309", "nan", "null", "../../x", "/dev/zero", "/", "~", "a" * 5000)
TEXTS += ("\x00", "é\n\t'\"")
TEXTS += ("${nowhere}", "${oc.env:HOME}", "//pretrained/x", "//sig/0", "https://x.invalid/x", "[", "{a: 1}", DEEP)
VALUES: tuple[tp.Any, ...] = (*TEXTS, 0, 1, -1, 2, 3.7, -0.5, 1e-300, 1e300, 2**31, -(2**63), 2**64, 10**30)
VALUES += (float("nan"), float("inf"), None, True, False)
VALUES += ([], {}, [1, 2], ["x", None], {"a": 1}, {"": {}}, [[[[[[1]]]]]])


def value(rng: random.Random) -> tp.Any:
    """Something that may stand anywhere in a JSON or YAML file, and mostly should not."""
    return copy.deepcopy(rng.choice(VALUES))


def tree(content: tp.Any, rng: random.Random, odd: tp.Callable[[random.Random], tp.Any] = value) -> tp.Any:
    """The same nested lists and dicts with values or keys changed, gone, or moved."""
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if not (places := list(_places(content))):
            return odd(rng)
        (parent, key), (other, name) = rng.choices(places, k=2)
        way = rng.randrange(8)
        if way == 0:
            del parent[key]
        elif way == 1 and isinstance(parent, dict):
            parent[rng.choice(("x", "", 5, str(key).upper()))] = parent.pop(key)
        elif way == 2 and not isinstance(other[name], (dict, list)):
            parent[key] = other[name]
        else:
            parent[key] = odd(rng)
    return content


def _places(content: tp.Any) -> tp.Iterator[tuple[tp.Any, tp.Any]]:
    if isinstance(content, (dict, list)):
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            yield content, key
            yield from _places(content[key])


def text(content: str, rng: random.Random) -> bytes:
    """A text with words and lines changed."""
    lines = content.split("\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        match rng.randrange(5):
            case 0:
                lines.insert(at, rng.choice([*lines, *TEXTS]))
            case 1:
                lines[at] = f"{lines[at].split(':')[0]}: {value(rng)}"
            case 2:
                lines[at] += rng.choice("[{(-") * rng.choice((10, 3000, 100_000))
            case 3:
                place = rng.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:place] + rng.choice("\t:,*&!%@`\"'\x07\ufeff\udc80") + lines[at][place:]
            case 4:
                lines = [*lines[:at], *lines[at + rng.randint(1, 3) :], ""]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def data(content: bytes, rng: random.Random, others: tp.Sequence[bytes] = (b"",)) -> bytes:
    """Bytes with some flipped, gone, doubled or zero, sizes changed, or parts of others in and behind them."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        size = len(content)
        # Most of what matters stands at the beginning.
        at = rng.randrange(min(size, rng.choice((64, 512, size))) or 1)
        end = at + rng.choice((1, 2, 4, 8, 100, size // 3))
        match rng.randrange(8):
            case 0:
                flipped = bytearray(content)
                for place in [rng.randrange(size) for _ in range(min(size, rng.choice((1, 4, 30))))]:
                    flipped[place] ^= 1 << rng.randrange(8)
                content = bytes(flipped)
            case 1 | 2:
                form = rng.choice(("<I", ">I", "<Q", ">Q", "<H", "B"))
                edge = struct.pack(form, rng.choice(EDGES) % (1 << 8 * struct.calcsize(form)))
                content = content[:at] + edge + content[at + len(edge) :]
            case 3:
                content = content[: rng.choice((at, rng.randrange(size + 1)))]
            case 4:
                content = content[:at] + rng.choice((b"", content[at:end] * 2)) + content[end:]
            case 5:
                content = content[:at] + rng.choice((bytes(end - at), rng.randbytes(end - at))) + content[at:]
            case 6:
                content = content[:at] + rng.choice(others)[rng.randrange(size + 1) :]
            case 7:
                content = b"".join([content, *rng.choices([content, *others], k=rng.randint(1, 3))])
    return content
