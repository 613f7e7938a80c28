"""Numbers in running text: found as they are written, and their value.

Known: "$1,234.50", "-5", "1e3", "3/4", "2 1/2", `\\frac{1}{2}`, "15%" (the sign is a unit), "twenty-one".
"""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER = re.compile(
    r"(?P<sign>[-+\u2212])?(?:[$\u00a3\u20ac]\s?)?(?P<sign2>[-\u2212])?"
    r"(?P<value>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?P<exp>[eE][-+]?\d+)?"
    r"(?:\s+(?P<mixed>\d+/[1-9]\d*)|\s?/\s?(?P<over>[1-9]\d*))?"
)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\{(-?\d{1,99})\}\{(\d{1,99})\}")
_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORD_VALUES = {w: i for i, w in enumerate(_ONES)} | {w: 20 + 10 * i for i, w in enumerate(_TENS)}
_NUMBER_WORDS = re.compile(
    rf"\b(?:(?P<tens>{'|'.join(_TENS)})(?:[- ](?P<unit>{'|'.join(_ONES[1:10])}))?"
    rf"|(?P<one>{'|'.join(_ONES)}))\b",
    re.IGNORECASE,
)


def _numbers(text: str) -> list[re.Match[str]]:
    return [m for m in _NUMBER.finditer(text) if not (m.start() and text[m.start() - 1].isalpha() and not m["sign"])]


def first(text: str) -> str | None:
    """The first number as it was written, with its sign and unit mark; None without any digit."""
    latex = _LATEX_FRACTION.search(text)
    hits = _numbers(text)
    if latex and (not hits or latex.start() <= hits[0].start()):
        return latex[0]
    return _signed(text, hits[0]) if hits else None


def last(text: str) -> str | None:
    """The last number, likewise."""
    hits, latex = _numbers(text), list(_LATEX_FRACTION.finditer(text))
    if latex and latex[-1].end() >= hits[-1].end():
        return latex[-1][0]
    return _signed(text, hits[-1]) if hits else None


def _signed(text: str, hit: re.Match[str]) -> str:
    """The number, without a leading sign that is an operator: in "10 -3" or "10-3" it follows a value."""
    before = text[: hit.start()]
    operator = hit["sign"] and re.search(r"(?:[\d)%\]}]\s*|\w)$", before)
    return hit[0][1:].strip() if operator else hit[0].strip()


def in_words(text: str) -> str | None:
    """The last number written out, zero to ninety-nine."""
    hits = list(_NUMBER_WORDS.finditer(text))
    return hits[-1][0] if hits else None


def value_of(text: str) -> Fraction | None:
    """What the first number in `text` is worth; None without one, or beyond 10**300."""
    latex = _LATEX_FRACTION.search(text)
    if latex:
        return Fraction(int(latex[1]), int(latex[2])) if int(latex[2]) else None
    hit = _NUMBER.search(text)
    if hit is None:
        word = _NUMBER_WORDS.search(text)
        if word is None:
            return None
        return Fraction(sum(_WORD_VALUES[g.lower()] for g in word.groups() if g))
    if len(hit[0]) > 300 or (hit["exp"] and abs(int(hit["exp"][1:])) > 300):
        return None  # a model repeating itself: no float holds it, and 10**n would eat the memory
    value = Fraction(hit["value"].replace(",", "") + (hit["exp"] or ""))
    if hit["over"]:
        value /= int(hit["over"])
    if hit["mixed"]:
        value += Fraction(hit["mixed"])
    return -value if (hit["sign"] or hit["sign2"] or "+") in "-\u2212" else value


def plain(value: Fraction) -> str:
    """Digits without exponent or trailing zeros, rounded to 6 decimals: "12", "-0.5"."""
    rounded = round(value * 10**6)
    whole, rest = divmod(abs(rounded), 10**6)
    digits = f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
    return f"-{digits}" if rounded < 0 else digits
