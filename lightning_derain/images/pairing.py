"""Which names of two folders belong together: the one pairing of pictures by name, for every verb.

Suffixes do not count. Equal names come first; then names that are equal but for upper and lower case, leading zeros and
Unicode's forms of one letter; then, where asked for, names that differ in a benchmark's words. What is ambiguous stays
without a partner, so that it is named and never guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lightning_derain.images.listing import IMAGE_SUFFIXES, OTHER_PICTURES

WORDS_BEFORE = r"^(?:(?:no)?rain|rainy|derain(?:ed)?|clean|input|label|target|output|gt)[-_ ]?(?=\d)"
WORDS_AFTER = r"(?<=\d)(?:x2|[-_ ]?(?:in|gt|rain|norain|rainy|clean|derain(?:ed)?|out(?:put)?))+$"
RAIN_VARIANT = r"(?<=\d)(?:_s\d+_a\d+|_\d{1,2})(?=$|[-_](?:in|rain|rainy|derain(?:ed)?|out(?:put)?)$)"

LEADING_ZEROS = re.compile(r"(?<!\d)(?<!\d\.)0+(?=\d)")
"""Of whole numbers; the zeros in 0.02 count."""

SPECIAL = re.compile(r'[\t"\\]')

NAMES = re.compile(
    rf"(.+?(?:{'|'.join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES | OTHER_PICTURES))}))\s+(\S.*)",
    re.IGNORECASE,
)
"""Two file names in one line, the first up to its suffix; either may have blanks in it."""


def folded(stem: str) -> str:
    """A name without what two copies of one file may differ in: case, leading zeros, Unicode's forms of a letter.

    Example:
        >>> folded("IMG_001") == folded("img_1"), folded("0.02") == folded("0.2")
        (True, False)
    """
    return LEADING_ZEROS.sub("", unicodedata.normalize("NFC", stem).casefold())


def match(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Pairs stems: equal ones, then `folded` ones, then but for a benchmark's words, then rain variants of one image.

    A later rule sees only what the earlier ones left, and skips what is ambiguous.

    Returns:
        The other name by name; many names may share one under the last rule alone.
    """
    names, others = list(names), list(others)
    pairs = match_equal(names, others)
    for key, many in ((_plain, False), (_scene, True)):
        _match_left(pairs, names, others, key, _plain, many)
    return pairs


def match_equal(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Pairs names: equal ones, then those that are equal once `folded`, if one of each is left."""
    names, others = list(names), list(others)
    known = set(others)
    pairs = {name: name for name in names if name in known}
    if len(pairs) < len(names) and len(pairs) < len(others):
        _match_left(pairs, names, others, folded, folded, many=False)
    return pairs


def _match_left(
    pairs: dict[str, str],
    names: Iterable[str],
    others: Iterable[str],
    key: Callable[[str], str],
    other_key: Callable[[str], str],
    many: bool,
) -> None:
    taken = set(pairs.values())
    left = _grouped((name for name in names if name not in pairs), key)
    free = _grouped((other for other in others if other not in taken), other_key)
    for shared, group in left.items():
        if len(free.get(shared, ())) == 1 and (many or len(group) == 1):
            pairs.update(dict.fromkeys(group, free[shared][0]))


def ambiguous(names: Iterable[str], others: Iterable[str], pairs: dict[str, str]) -> list[tuple[list[str], list[str]]]:
    """Names without a partner that are `folded` alike on both sides, in groups: several could belong together."""
    taken = set(pairs.values())
    left = _grouped((name for name in names if name not in pairs), folded)
    free = _grouped((other for other in others if other not in taken), folded)
    return [(group, free[shared]) for shared, group in left.items() if shared in free]


def _plain(stem: str) -> str:
    return folded(re.sub(WORDS_AFTER, "", re.sub(WORDS_BEFORE, "", stem, flags=re.IGNORECASE), flags=re.IGNORECASE))


def _scene(stem: str) -> str:
    """The clean image that a rain variant belongs to; nothing for a name without a variant."""
    scene, variants = re.subn(RAIN_VARIANT, "", stem, flags=re.IGNORECASE)
    return _plain(scene) if variants else ""


def _grouped(stems: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for stem in stems:
        groups.setdefault(key(stem), []).append(stem)
    return groups


def read_list(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The file names in each line of a list of pairs: two, unless the line is something else.

    The list may begin with a byte order mark, be UTF-16, or hold bytes that are no text. Names are separated by a tab,
    by blanks, or in quotes; names with blanks need no quotes where they have a suffix. Empty lines and those that begin
    with `#` are passed over.

    Returns:
        The number of each line, from 1, and its names.
    """
    for number, line in enumerate(re.split(r"\r\n|\n|\r", _decoded(path.read_bytes())), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, _names(line.strip())


def _decoded(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if data[1:2] == b"\0" or data[:1] == b"\0":
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be", "replace")
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def _names(line: str) -> list[str]:
    parts = line.split()
    if len(parts) == 2 and not SPECIAL.search(line):
        return parts
    if "\t" in line:
        parts = [part.strip(' "') for part in line.split("\t") if part.strip()]
    elif '"' in line:
        parts = [quoted or plain for quoted, plain in re.findall(r'"([^"]+)"|(\S+)', line)]
    elif len(parts) != 2 and (found := NAMES.fullmatch(line)):
        parts = [found[1], found[2]]
    return [part if "/" in part else part.replace("\\", "/") for part in parts]
