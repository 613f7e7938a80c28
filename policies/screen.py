"""What must not be learnt: injected instructions, secrets, personal data.

A finding names its kind and one sentence, never the secret itself. Secrets are found by detect-secrets'
detectors of token formats (its entropy detectors flag ordinary long words and are left out); personal data by
patterns whose checks keep arithmetic apart: card numbers by Luhn's sum, IBANs by ISO 7064 mod 97, telephone
numbers only in an international or labelled form. Not covered: names and postal addresses, injections in
words that no pattern knows or in other languages than English; the caps per source hold for those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import import_module
from itertools import islice
from typing import Any

from policies.duplicates import plain


class Code(StrEnum):
    """Why a text is not learnt."""

    INJECTION = "injection"
    SECRET = "secret"
    PERSONAL = "personal_data"
    LONG = "too_long"


@dataclass(frozen=True, slots=True)
class Finding:
    """The first thing found in a text."""

    code: Code
    sentence: str  # for a person; holds no secret


_RULES = r"(?:instructions?|prompts?|rules?|directions?|guidelines?|messages?|context|commands?)"
_EARLIER = r"(?:previous|prior|above|earlier|preceding|system|original|existing|all|any|these|those|your|the)"
_IGNORE = r"(?:ignor\w*|disregard\w*|forget|overrid\w*|bypass\w*|(?:do not|don't|stop) follow(?:ing)?)"
_SAY = r"(?:answer|reply|respond|output|say|print|return)"
_ORDER = r"(?:you )?(?:must |should |always |just )*"
_LITERAL = r"(?:[\"']|\d|exactly\b|the (?:number|word|letter) \S)"
_NO_OR = r"(?![^.?!\n]{0,30}\bor\b)"  # "always answer 'yes' or 'no'" is a form, not an answer
_INJECTIONS = {
    "an instruction to ignore earlier ones": (
        rf"\b{_IGNORE}\s+(?:(?:{_EARLIER}|of|my|other)\s+){{1,5}}{_RULES}\b",
        rf"\b{_IGNORE}\s+(?:everything|anything|all|what)\s+(?:\w+\s+){{0,4}}(?:above|before|earlier|said|told)\b",
    ),
    "a change of the assistant's role": (
        r"\bfrom now on,? (?:you|always|never|every|all|answer|reply|respond|say)\b",
        r"\byou are now\b|\bnew instructions?:|\bdeveloper mode\b|\bjailbreak|\bsystem override\b",
        r"\bact as (?:an? )?(?:dan|unrestricted|jailbroken|uncensored)\b|\bdo anything now\b",
        r"\bpretend (?:that )?you (?:are|have) (?:no|not|an? (?:un|different))",
    ),
    "an order about the answer that is no question": (
        rf"\b(?:regardless of|no matter)\b[^.?!\n]{{0,60}}[, ]{_ORDER}{_SAY}\b{_NO_OR}",
        rf"\b{_SAY} [^.?!\n]{{1,40}} (?:regardless of|no matter (?:what|which|how))\b",
        rf"\b(?:always|must|simply) {_SAY} (?:with )?{_LITERAL}{_NO_OR}",
        r"\bthe (?:correct|right|true|only) answer is always\b",
        r"\banswer \S{1,20} (?:to|for) (?:every|all)(?:thing)?\b",
        rf"\b(?:whenever|every time) (?:you|i|someone|anyone|the word) (?:\w+ ){{0,8}}\S+,? {_SAY}\b",
    ),
    "a question about the hidden prompt": (
        r"\b(?:reveal|repeat|print|show|output|leak|tell me)\s+(?:me\s+)?(?:your|the)\s+(?:\w+\s+)?"
        r"(?:system|hidden|initial|secret|developer)\s+(?:prompt|instructions?|message)\b",
    ),
    "a role marker": (
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|begin_of_text|eot_id|start_header_id)\|?>?",
        r"\[/?inst\]|<</?sys>>|</?(?:system|assistant|tool_call|tool_response)>",
        r"(?:^|\n)\s*(?:#{1,3}\s*)?system(?: (?:prompt|message))?\s*:\s*\S",
    ),
}

_MAIL = re.compile(r"[\w.+-]{1,64}@(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}\b")
_DIGIT_RUN = re.compile(r"(?<![\w.+*/=-])\d(?:[ -]?\d){12,18}(?![\w.]*\d)")
_IBAN = re.compile(r"\b[a-z]{2}\d{2}(?: ?[a-z0-9]{4}){2,7}(?: ?[a-z0-9]{1,4})?\b")
_PHONE = re.compile(r"(?<![\w+])(?:\+|00)[1-9](?:[ .()/-]{0,2}\d){7,13}(?!\d)")
_LABELLED_PHONE = re.compile(
    r"\b(?:phone|tel|telephone|mobile|cell|fax|whatsapp|call me|(?:my|her|his|their) number)"
    r"\.?:?\s*(?:number)?\s*(?:is|at|on)?\s*:?\s*\(?\d(?:[ .()/-]{0,2}\d){6,14}(?!\d)"
)
_SOCIAL = re.compile(r"\b(?:ssn|social security)\D{0,20}\d{3}-?\d{2}-?\d{4}\b|(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
_PASSWORD = re.compile(
    r"\b(?:password|passwd|passphrase|pwd|(?:api|access|secret)[ _-]?key|client[ _-]?secret|auth[ _-]?token)"
    r"\b(?:\s+is\s*:?|\s*[:=])\s*[\"'`]?(?=\S*[\d@#$%^&*_+=~])[^\s\"'`]{6,}"
)

_TOKEN_LIKE = re.compile(r"\S{16}|-----BEGIN|\w+://")
_DETECTORS = {
    "artifactory": "ArtifactoryDetector",
    "aws": "AWSKeyDetector",
    "azure_storage_key": "AzureStorageKeyDetector",
    "basic_auth": "BasicAuthDetector",
    "cloudant": "CloudantDetector",
    "discord": "DiscordBotTokenDetector",
    "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector",
    "ibm_cloud_iam": "IbmCloudIamDetector",
    "ibm_cos_hmac": "IbmCosHmacDetector",
    "jwt": "JwtTokenDetector",
    "mailchimp": "MailchimpDetector",
    "npm": "NpmDetector",
    "openai": "OpenAIDetector",
    "private_key": "PrivateKeyDetector",
    "pypi_token": "PypiTokenDetector",
    "sendgrid": "SendGridDetector",
    "slack": "SlackDetector",
    "softlayer": "SoftlayerDetector",
    "square_oauth": "SquareOAuthDetector",
    "stripe": "StripeDetector",
    "telegram_token": "TelegramBotTokenDetector",
    "twilio": "TwilioKeyDetector",
}


MAX_CHARS = 20_000  # far over any lesson; some detectors take quadratic time over texts made for that


def screen(text: str) -> Finding | None:
    """The first reason in `text` against learning it; None: nothing found."""
    return next(iter(findings(text)), None)


def findings(text: str) -> Iterator[Finding]:
    """Every reason in `text`, one per kind of thing, secrets first: they matter most."""
    if len(text) > MAX_CHARS:
        yield Finding(Code.LONG, f"the text has {len(text)} characters, too many to be screened")
        return
    lowered = plain(text)
    for kind in secrets(text, lowered):
        yield Finding(Code.SECRET, f"the text holds a secret ({kind})")
    for kind in personal(lowered):
        yield Finding(Code.PERSONAL, f"the text holds personal data ({kind})")
    for kind, patterns in _INJECTIONS.items():
        if any(re.search(pattern, lowered) for pattern in patterns):
            yield Finding(Code.INJECTION, f"the text reads like {kind}")


_GIVING = (
    r"\b(?:answer|repl(?:y|ies)|respon[ds]|solution|say|antwort|lösung|répon|réponse|respuest|rispost|rispond|respost|"
    r"antwoord|odpowied|ответ|cevap)\w*|回答|答案|答え"
)
_GAP = r"[ \t:,;=\"'`*(\[\u2013\u2014-]"  # no sentence ends within it
_BEFORE = re.compile(rf"(?:{_GIVING}){_GAP}{{0,4}}(?:[^\W\d]+{_GAP}{{1,4}}){{0,3}}$")
_LISTED_BEFORE = re.compile(r"(?:\bor\s+|\w/)[\"'(\[]?$")
_LISTED_AFTER = re.compile(r"[\"')\]]?(?:/\w|,?\s*\bor\b|,\s*[\"'(\[]?[\w]{1,15}[\"')\]]?(?:,|\s+(?:or|and)\b))")
_NEAR = 80  # characters before an answer in which a word for answering is looked for
_MENTIONS = 100  # of the answer in a text that are looked at


def gives_away(text: str, answer: str) -> bool:
    """Whether a text names its own answer ("The answer is 7", "antworte mit 7"): agreement on it shows nothing.

    A form that lists several answers ("Answer yes or no") does not. Only a word for answering in one of a dozen
    languages is recognised, in the same sentence, with at most three words between it and the answer.
    """
    lowered, wanted = plain(text), plain(answer)
    if not wanted:
        return False
    mentions = re.finditer(rf"(?<![\w.]){re.escape(wanted)}(?![\w%]|[.,]\d)", lowered)
    return any(_given(lowered, hit.start(), hit.end()) for hit in islice(mentions, _MENTIONS))


def _given(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - _NEAR) : start]
    if _LISTED_BEFORE.search(before) or _LISTED_AFTER.match(text[end : end + _NEAR]):
        return False
    return _BEFORE.search(before) is not None


def secrets(text: str, lowered: str) -> Iterator[str]:
    """Kinds of secrets; `lowered` is the folded text."""
    # Every token format has such a run: plain prose is spared two dozen detectors.
    for detector in _detectors() if _TOKEN_LIKE.search(text) else ():
        if any(True for line in text.splitlines() for _ in detector.analyze_string(line)):
            yield str(detector.secret_type)
    if _PASSWORD.search(lowered):
        yield "a password or key after its name"


def personal(lowered: str) -> Iterator[str]:
    """Kinds of personal data in a folded text."""
    if _MAIL.search(lowered):
        yield "an e-mail address"
    if any(_luhn(hit[0]) for hit in _DIGIT_RUN.finditer(lowered)):
        yield "a card number"
    if any(_mod_97(hit[0]) for hit in _IBAN.finditer(lowered)):
        yield "an IBAN"
    if _PHONE.search(lowered) or _LABELLED_PHONE.search(lowered):
        yield "a telephone number"
    if _SOCIAL.search(lowered):
        yield "a social security number"


@cache
def _detectors() -> tuple[Any, ...]:
    # Imported at first use: detect-secrets loads an HTTP client, half a second that the start need not pay.
    found = ((f"detect_secrets.plugins.{module}", name) for module, name in _DETECTORS.items())
    return tuple(getattr(import_module(module), name)() for module, name in found)


def _luhn(run: str) -> bool:
    """Whether a run of 13 to 19 digits is a card number: an issuer's first digit and Luhn's check digit."""
    digits = [int(c) for c in run if c.isdigit()]
    if digits[0] not in (2, 3, 4, 5, 6) or len(set(digits)) == 1:
        return False
    doubled = [d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _mod_97(text: str) -> bool:
    """Whether the text is an IBAN by ISO 7064: 15 to 34 characters, remainder 1."""
    code = text.replace(" ", "")
    if not 15 <= len(code) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in code[4:] + code[:4])) % 97 == 1
