"""Names written in short, as shells and WebDataset have them: `train-{00000..00146}.tar`, `{train,test}-{0..4}.tar`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from ntksap_export.errors import ConfigError

LIMIT = 100_000  # names that one pattern may stand for
_MAX_BRACES = 50
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})", re.ASCII)


def expand(pattern: str) -> list[str]:
    """All names that a pattern stands for, in order.

    `{a,b}` is a or b, `{8..11}` is 8, 9, 10, 11, `{08..11}` is 08, 09, 10, 11; they may follow and hold each other.

    Raises:
        ConfigError: a brace without its partner, braces around neither a list nor a range, or more than 100,000 names.
    """
    if pattern.count("{") > _MAX_BRACES:
        raise ConfigError(f"'{pattern[:60]}...' has more than {_MAX_BRACES} braces; write a shorter pattern")
    names = list(islice(_expand(pattern, pattern), LIMIT + 1))
    if len(names) > LIMIT:
        raise ConfigError(f"'{pattern}' stands for more than {LIMIT:,} names; write a smaller range")
    return names


def _expand(text: str, whole: str) -> Iterator[str]:
    before, brace, rest = text.partition("{")
    if "}" in before or not brace:
        if "}" in before:
            raise _unbalanced(whole)
        yield before
        return
    parts, after = _split(rest, whole)
    for choice in _choices(parts, whole):
        for tail in _expand(after, whole):
            yield before + choice + tail


def _split(rest: str, whole: str) -> tuple[list[str], str]:
    """The parts between commas up to the closing brace, and what follows it."""
    depth, start, parts = 0, 0, []
    for position, character in enumerate(rest):
        if character == "{":
            depth += 1
        elif character == "," and depth == 0:
            parts.append(rest[start:position])
            start = position + 1
        elif character == "}" and depth > 0:
            depth -= 1
        elif character == "}":
            return [*parts, rest[start:position]], rest[position + 1 :]
    raise _unbalanced(whole)


def _choices(parts: list[str], whole: str) -> Iterator[str]:
    if len(parts) > 1:
        for part in parts:
            yield from _expand(part, whole)
        return
    found = _RANGE.fullmatch(parts[0])
    if found is None:
        raise ConfigError(f"'{{{parts[0]}}}' in '{whole}' is no list {{a,b}} and no range {{00..12}}; mend the pattern")
    first, last = found.groups()
    padded = any(end.startswith("0") and len(end) > 1 for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    step = 1 if int(first) <= int(last) else -1
    for number in range(int(first), int(last) + step, step):
        yield f"{number:0{width}d}"


def _unbalanced(whole: str) -> ConfigError:
    return ConfigError(f"'{whole}' has a brace without its partner; mend the pattern")
