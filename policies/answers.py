"""What a text answers: find the answer, bring it to one form, compare two of them.

`find` returns the answer as it was written, `normalise` the form that votes are counted in, `extract` both in
one step. An explicit marker ("The answer is ...", "Final answer:", "#### 12", `\\boxed{}`) wins over any
other rule, and the last marker over earlier ones: a chain of thought names intermediate results first.
Not covered: decimal commas ("1.234,50"), clock times as numbers, and numbers in words beyond ninety-nine.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from memory.records import AnswerType
from policies import numbers

FREE_TEXT_F1 = 0.7  # 0..1, token F1 from which two free texts say the same

_MARKER = re.compile(
    r"####|\bFINAL:|\bfinal (?:answer|verdict|result)\b(?:\s+is)?\s*[:=]?|"
    r"\b(?:answer|option|choice|result)(?:\s+(?:is|would be|should be|must be)\b\s*[:=]?|\s*:)|"
    r"\banswer\s*=",
    re.IGNORECASE,
)
_YES_NO = re.compile(r"\b(yes|no|true|false)\b", re.IGNORECASE)
_QUOTED = re.compile(
    r"\"([^\"\n]+)\"|\u201c([^\u201d\n]+)\u201d|\*\*([^*\n]+)\*\*|`([^`\n]+)`|(?<!\w)'([^'\n]+)'(?!\w)"
)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_LETTERED = re.compile(r"\(([A-J])\)|^\W{0,3}([A-J])[.):](?=\s|$)", re.MULTILINE)
_FINAL = re.compile(r"\bfinal(?: answer)?\**:|\bfinal answer[*_#]*\n", re.IGNORECASE)
_VERDICT_BRACKETS = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
_VERDICT_MARK = re.compile(
    r"\b(?:verdict|winner|judge?ment|better (?:one|response|output|assistant))\b(?:\s+is\b)?", re.IGNORECASE
)
_VERDICT_HEAD = re.compile(  # a small "a" is an article unless nothing follows it
    r"(?i:the )?(?i:assistant|response|output|answer)?\s*[\[(*\"']*"
    r"(?:(?P<tie>(?i:(?:a )?tie)\b)|(?P<who>[ABC]\b|[abc](?=\W*\Z)))"
)
_IS = r"(?:is|was|seems|looks|provides|gives|wins)(?:\s+(?:a|the|clearly|slightly|much|overall))*"
_BEST = r"(?:better|best|winner|superior|preferable)"
_VERDICT_WORDS = re.compile(
    r"\b(?i:assistant|answer|response|output)\s+\(?(?P<who>[ABab])\)?(?i:'s (?:answer|response|output))?\s+"
    rf"(?i:{_IS}\s+(?:{_BEST}|more))"
    rf"|(?<!\bif )(?<!\bor )(?<!\bnor )(?<!\bwhether )\b(?P<bare>[AB])\s+(?i:wins\b|{_IS}\s+{_BEST})"
    r"|\b(?i:prefer|choose|pick)\s+(?i:assistant|answer|response|output)?\s*\(?(?P<picked>[AB])\b"
    r"|(?i:\b(?:a tie|tie\b|equally good|neither\b[^.\n]{0,40} better))"
)


def extract(
    text: str, answer_type: AnswerType, choices: Sequence[str] = (), *, marked_only: bool = False
) -> str | None:
    """The answer in `text`, normalised; None where none can be understood.

    `choices`: the allowed answers of a CHOICE (empty: letters). `marked_only`: accept an answer after an
    explicit marker alone, for a text that was cut off by the token limit, whose last number is noise.
    """
    found = find(text, answer_type, choices, marked_only=marked_only)
    return None if found is None else normalise(found, answer_type, choices)


def find(text: str, answer_type: AnswerType, choices: Sequence[str] = (), *, marked_only: bool = False) -> str | None:
    """The answer in `text` as it was written, or None. Arguments as in `extract`."""
    text = unicodedata.normalize("NFC", text).strip()
    if not text:
        return None
    if answer_type is AnswerType.VERDICT:
        return _find_verdict(text)
    if answer_type is AnswerType.FREE_TEXT:
        return _find_free_text(text, marked_only=marked_only)
    for part in reversed(_marked_parts(text, _MARKER)):
        found = _find_in_marked(part, answer_type, choices)
        if found is not None:
            return found
    return None if marked_only else _find_unmarked(text, answer_type, choices)


def normalise(answer: str, answer_type: AnswerType, choices: Sequence[str] = ()) -> str | None:
    """One form per meaning: "$1,234.50" -> "1234.5", "(b)" -> "B", "The Paris." -> "paris"; else None.

    A percent sign counts as a unit and is dropped. Numbers are rounded to 6 decimals. FREE_TEXT keeps its
    wording.
    """
    if answer_type is AnswerType.NUMBER:
        value = numbers.value_of(answer)
        return None if value is None else numbers.plain(value)
    if answer_type is AnswerType.CHOICE:
        return _choice(answer, choices)
    if answer_type is AnswerType.YES_NO:
        hit = _YES_NO.search(answer)
        return None if hit is None else ("yes" if hit[1].lower() in ("yes", "true") else "no")
    if answer_type is AnswerType.VERDICT:
        letter = answer.strip("[] ().").upper()
        return "C" if letter == "TIE" else letter if letter in ("A", "B", "C") else None
    if answer_type is AnswerType.FREE_TEXT:
        return " ".join(answer.split()) or None
    return fold(answer) or None


def same(a: str | None, b: str | None, answer_type: AnswerType) -> bool:
    """Whether two normalised answers say the same; None equals nothing, not even None.

    FREE_TEXT compares words: token F1 of at least 0.7. All other types compare exactly.
    """
    if a is None or b is None:
        return False
    if answer_type is AnswerType.FREE_TEXT:
        return a == b or token_f1(a, b) >= FREE_TEXT_F1
    return a == b


def token_f1(a: str, b: str) -> float:
    """Harmonic mean of the shares of words that two texts have in common, 0..1 (SQuAD's F1)."""
    left, right = Counter(fold(a).split()), Counter(fold(b).split())
    shared = sum((left & right).values())
    total = sum(left.values()) + sum(right.values())
    return 2 * shared / total if total else 0.0


def fold(text: str) -> str:
    """Lower case, no accents' variants, no articles, no punctuation, single spaces."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(c for c in text if not unicodedata.category(c).startswith("P"))
    return " ".join(_ARTICLES.sub(" ", text).split())


def _marked_parts(text: str, *markers: re.Pattern[str]) -> list[str]:
    """What follows each marker up to the end of its line (the next where that is empty), in text order."""
    parts = [(m.start(), text[m.end() :]) for marker in markers for m in marker.finditer(text)]
    parts += [(i, body) for i, body in _boxed(text)]
    return [_first_line(rest) for _, rest in sorted(parts, key=lambda part: part[0])]


def _boxed(text: str) -> list[tuple[int, str]]:
    """(position, content) of every `\\boxed{...}`, braces balanced."""
    found = []
    for start in re.finditer(r"\\boxed\s*\{", text):
        depth, i = 1, start.end()
        while i < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[i], 0)
            i += 1
        found.append((start.start(), text[start.end() : i - 1 if not depth else i]))
    return found


def _first_line(rest: str) -> str:
    lines = [line.strip(" \t:*_#>") for line in rest.splitlines()]
    return next((line for line in lines if line.strip("$\\[](){}")), "")


def _find_in_marked(part: str, answer_type: AnswerType, choices: Sequence[str]) -> str | None:
    if answer_type is AnswerType.NUMBER:
        # "The answer is 26 + 81 = 107": the result stands behind the last equals sign
        right = part.rsplit("=", 1)[-1]
        return numbers.first(right) or numbers.first(part) or numbers.in_words(part)
    if answer_type is AnswerType.CHOICE:
        return part if _choice(part, choices) is not None else None
    if answer_type is AnswerType.YES_NO:
        hit = _YES_NO.search(part)
        return hit[0] if hit else None
    return _short(part) if fold(part) else None


def _find_unmarked(text: str, answer_type: AnswerType, choices: Sequence[str]) -> str | None:
    if answer_type is AnswerType.NUMBER:
        return numbers.last(text) or numbers.in_words(text)
    if answer_type is AnswerType.CHOICE:
        return _find_choice(text, choices)
    if answer_type is AnswerType.YES_NO:
        hits = _YES_NO.findall(text)
        first = _YES_NO.match(text.lstrip("*_\"'# "))
        return first[0] if first else hits[-1] if hits else None
    lines = [line.strip() for line in text.splitlines() if fold(line)]
    if not lines:
        return None
    return _short(lines[0] if len(lines[0].split()) <= 5 else lines[-1])


def _short(line: str) -> str:
    """The quoted or bold words of a sentence where there are any, else the line."""
    quoted = [next(g for g in m.groups() if g) for m in _QUOTED.finditer(line)]
    line = re.sub(r"^\\text\{(.*)\}$", r"\1", line.strip("$ "))
    return (quoted[-1] if quoted else line).strip().rstrip(".").strip("\"'*` ")


def _find_choice(text: str, choices: Sequence[str]) -> str | None:
    """The whole text, the option named last, or the last lettered line or parenthesis."""
    letters = [a or b for a, b in _LETTERED.findall(text)]
    if len(set(letters)) < 2 and _exact_choice(text, choices) is not None:
        return text
    folded = f" {_words(text)} "
    ends = [(folded.rfind(f" {_words(c)} ") + len(_words(c)), len(c), c) for c in choices if f" {_words(c)} " in folded]
    if ends:
        return max(ends)[2]
    return letters[-1] if letters else None


def _choice(answer: str, choices: Sequence[str]) -> str | None:
    """The option that `answer` is or begins with a letter of, else the longest one named in it."""
    exact = _exact_choice(answer, choices)
    if exact is not None:
        return exact
    folded = f" {_words(answer)} "
    inside = [c for c in choices if f" {_words(c)} " in folded]
    return max(inside, key=len) if inside else None


def _exact_choice(answer: str, choices: Sequence[str]) -> str | None:
    bare = re.sub(r"\\text(?:bf)?\{(.*?)\}", r"\1", answer).strip(" $\"'*`_:.")
    for choice in choices:
        if _words(choice) == _words(bare):
            return choice
    letter = re.match(r"(?i:option |choice )?[\[({*\"']*([A-Ja-j])(?:[\])}.:,*\"']|\s*[-\u2013:]\s|$)", bare)
    if letter is None:
        return None
    index = ord(letter[1].upper()) - ord("A")
    if not choices:
        return letter[1].upper()
    return choices[index] if index < len(choices) else None


def _words(choice: str) -> str:
    return fold(choice.replace("_", " ").replace("-", " "))


def _find_verdict(text: str) -> str | None:
    brackets = _VERDICT_BRACKETS.findall(text)
    if brackets:
        return str(brackets[-1])
    alone = re.fullmatch(r"\W*(?:(?:assistant|answer|response|output)\W+)?(A|B|C|tie)\W*", text, re.IGNORECASE)
    if alone:
        return alone[1]
    for part in reversed(_marked_parts(text, _MARKER, _VERDICT_MARK)):
        head = _VERDICT_HEAD.match(part)
        if head:
            return head["who"] or "tie"
    words = list(_VERDICT_WORDS.finditer(text))
    return None if not words else words[-1]["who"] or words[-1]["bare"] or words[-1]["picked"] or "tie"


def _find_free_text(text: str, *, marked_only: bool) -> str | None:
    """What stands behind the last "Final answer:" or "FINAL:" that something stands behind, else the whole text."""
    parts = [part.strip("* \n") for part in _FINAL.split(text)]
    return next((part for part in reversed(parts[marked_only:]) if part), None)
