"""Near-duplicates: two wordings of one question, told apart from two questions of one kind.

The unit is the gist: the content words, numbers and operators of a question in order, without courtesy,
articles, case and punctuation. Equal gists are near-duplicates. "What is 26 + 81 + 77?" and "hey, could you
tell me what 26+81+77 is please" share one; another number, name, operator or content word makes another
question. Not covered: synonyms, typing errors and filler words made up by an attacker; for those the caps per
source hold.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence

from memory.records import Message
from policies.skills import last_user_text, message_text

_SUPERSCRIPTS = str.maketrans({c: f"^{d}" for c, d in zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True)})
_SYMBOLS = str.maketrans("\u00d7\u00f7\u2212\u2013\u2014\u2018\u2019", "*/---''")
_TOKEN = re.compile(
    r"(?P<number>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\w)\.\d+)"
    r"|(?P<word>[^\W\d_]+(?:['_-]?[^\W_]+)*)"
    r"|(?P<mark>[-+*/^=<>%$€£&|~#@()\[\]{}\\])"
)
# Courtesy is dropped as whole phrases: single pronouns and verbs carry meaning ("did I pay you").
_COURTESY = re.compile(
    r"\b(?:please|pls|kindly|thanks?(?: you)?(?: (?:so|very) much)?(?: in advance)?"
    r"|hi(?: there)?|hello|hey|dear"
    r"|(?:can|could|would|will) you(?: please| kindly)?(?: (?:tell|give|show|help) me(?: with| out with)?)?"
    r"|(?:tell|give|show) me|i(?: would|'d)? (?:need|want|like) to know|i(?: am|'m) (?:wondering|asking)"
    r"|do you know|quick question|question|just)\b[,:!]?"
)
_OPENING = frozenset(("what's", "whats", "compute", "calculate", "evaluate", "find", "solve", "answer", "work", "out"))
_CLOSING = frozenset(("is", "=", "equal", "equals"))
_ARTICLES = frozenset(("a", "an", "the"))


def gist(text: str) -> tuple[str, ...]:
    """Content words, numbers and operators of `text` in order, in one spelling. () where there are none."""
    text = _COURTESY.sub(" ", " ".join(plain(text).split()))
    tokens = [_spelled(m) for m in _TOKEN.finditer(text)]
    kept = [t for i, t in enumerate(tokens) if t not in _ARTICLES and _is_meant(tokens, i)]
    return tuple(_without_frame(kept)) or tuple(tokens)


def plain(text: str) -> str:
    """The text in one case and one spelling of its characters, without invisible ones; lines stay lines."""
    if text.isascii():  # nearly every text; nothing below changes it
        return text.lower()
    text = unicodedata.normalize("NFKC", text.translate(_SUPERSCRIPTS)).translate(_SYMBOLS).casefold()
    return "".join(c for c in text if unicodedata.category(c) != "Cf")  # zero-width characters hide copies


def twin_key(messages: Sequence[Message]) -> str:
    """One key (sha256 hex) for all near-duplicates of the question that `messages` ends with.

    Earlier turns must match word by word ("And in pounds?" means nothing alone). System messages do not
    count: the same question under another system prompt is still a twin of the held-out one.
    """
    text = last_user_text(messages)
    turns = [m for m in messages if m.get("role") != "system"]
    before = [" ".join(message_text(m).casefold().split()) for m in turns[:-1]]
    question: Sequence[str] = gist(text) or (text.strip(),)
    return hashlib.sha256(json.dumps([before, question], ensure_ascii=False).encode()).hexdigest()


def _spelled(match: re.Match[str]) -> str:
    if not match["number"]:
        return match[0]
    digits = match["number"].replace(",", "")
    whole, _, rest = digits.partition(".")
    rest = rest.rstrip("0")
    return f"{whole.lstrip('0') or '0'}.{rest}" if rest else whole.lstrip("0") or "0"


def _is_meant(tokens: Sequence[str], i: int) -> bool:
    """Whether a mark is an operator or part of an expression, and not punctuation or markup."""
    token = tokens[i]
    if token[0].isalnum():
        return True
    sides = (tokens[i - 1] if i else "", tokens[i + 1] if i + 1 < len(tokens) else "")
    if token == "-":
        return any(side[:1].isdigit() or side in ("(", ")") for side in sides)
    if token in "*#":  # markdown, unless it stands in an expression
        return token not in sides and any(side[:1].isalnum() or side in ("(", ")") for side in sides)
    if token in "()[]{}":
        return any(side[:1].isdigit() or side in "+-*/^=()" for side in sides if side)
    return True


def _without_frame(tokens: list[str]) -> list[str]:
    """Without the words that only ask ("what is ... equal to"), which stand at the ends."""
    start, end = 0, len(tokens)
    while start < end and _only_asks(tokens, start):
        start += 1
    if end - start > 1 and tokens[end - 1] == "to" and tokens[end - 2] in _CLOSING:
        end -= 1
    while end > start and tokens[end - 1] in _CLOSING:
        end -= 1
    return tokens[start:end]


def _only_asks(tokens: Sequence[str], i: int) -> bool:
    """Whether a word at the start asks and says nothing: "what is", "what" before a sum, "compute"."""
    after = tokens[i + 1] if i + 1 < len(tokens) else ""
    if tokens[i] == "what":  # "what do I need to pay" is not "do I need to pay"
        return after in ("is", "are") or not after[:1].isalpha()
    return tokens[i] in _OPENING or (i > 0 and tokens[i] in ("is", "are") and tokens[i - 1] == "what")
