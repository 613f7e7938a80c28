"""A judgement's question and two responses, found in the prompt by the usual ways of writing them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LAYOUTS = (
    # MT-Bench: "[The Start of Assistant A's Answer] ... [The End of Assistant A's Answer]"
    re.compile(
        r"\[The Start of Assistant A's Answer\]\n?(?P<a>.*?)\n?\[The End of Assistant A's Answer\].*?"
        r"\[The Start of Assistant B's Answer\]\n?(?P<b>.*?)\n?\[The End of Assistant B's Answer\]",
        re.DOTALL,
    ),
    # LLMBar: "# Output (a):\n...\n# Output (b):\n..."; and "Response A:", "Answer A:", "Assistant A:"
    re.compile(
        r"^[#* ]*(?:Output|Response|Answer|Assistant) \(?[aA]\)?:?\**:?[ \t]*\n?(?P<a>.*?)\s*"
        r"^[#* ]*(?:Output|Response|Answer|Assistant) \(?[bB]\)?:?\**:?[ \t]*\n?(?P<b>.*?)(?=\s*\n#|\s*\Z)",
        re.DOTALL | re.MULTILINE,
    ),
)
_QUESTION = re.compile(
    r"(?:\[(?:User )?Question\]|^[#* ]*(?:Instruction|Question|Query):?\**:?)[ \t]*\n?(?P<q>.*)",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and two responses to it, with where the responses stand in the prompt."""

    text: str  # the whole prompt
    question: str
    a: str
    b: str
    span_a: tuple[int, int]  # characters
    span_b: tuple[int, int]  # characters

    def swapped(self) -> Pair:
        """The same prompt with the two responses in each other's place."""
        (a0, a1), (b0, b1) = self.span_a, self.span_b
        text = self.text[:a0] + self.b + self.text[a1:b0] + self.a + self.text[b1:]
        shift = len(self.b) - len(self.a)
        spans = (a0, a0 + len(self.b)), (b0 + shift, b0 + shift + len(self.a))
        return Pair(text, self.question, self.b, self.a, *spans)


def parse(text: str) -> Pair | None:
    """The pair in a judge's prompt, or None where no known layout is found."""
    for layout in _LAYOUTS:
        hit = layout.search(text)
        if hit:
            before = text[: hit.start()]
            asked = _QUESTION.search(before)
            question = (asked["q"] if asked else before).strip()
            return Pair(text, question, hit["a"], hit["b"], hit.span("a"), hit.span("b"))
    return None
