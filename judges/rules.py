"""What can be said about an answer without a model: length, repetition, language, refusal, truncation."""

import re
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from fucina.factory.languages import UNDECIDED, read
from fucina.factory.stage import Context, StageConfig
from fucina.factory.textsignals import cut_off, refusal, repeated_share, words_of
from fucina.judges.base import Answer
from fucina.schemas.rows import Verdict

_NAMED = {
    "it": "italiano|italian", "en": "inglese|english", "fr": "francese|french", "es": "spagnolo|spanish|castigliano",
    "de": "tedesco|german", "la": "latino|latin", "pt": "portoghese|portuguese", "ru": "russo|russian",
    "ro": "rumeno|romanian", "zh": "cinese|chinese", "ja": "giapponese|japanese", "ar": "arabo|arabic",
    "nl": "olandese|dutch",
}  # fmt: skip
_TRANSLATES = re.compile(
    r"\b(?:tradu\w*|translat\w*|versione di|come si dic\w+|renderest\w+|che (?:cosa )?dice|mett\w+ in"
    r"|in (?:inglese|francese|spagnolo|tedesco|latino|english|french|spanish|german))\b",
    re.IGNORECASE,
)
_REPLY_IN = re.compile(
    r"\b(?:reply|answer|respond|response|write|output|rispond\w+|rispost\w+)\b[^.!?\n]{0,40}"
    r"\bin (?:italian|italiano)\b",
    re.IGNORECASE,
)
_ORDER_CHARS = 250


class Rules(StageConfig):
    """Five checks of an answer, each a verdict `pass` or `fail` with a score and the reason.

    `length` (score: words), `repetition` (share of words in repeated 5-grams), `language` (share of words in
    sentences of a wrong language), `refusal` (1 when the answer refuses), `truncation` (1 when it stops midway).
    """

    name: ClassVar[str] = "rules"
    aspects: ClassVar[tuple[str, ...]] = ("length", "repetition", "language", "refusal", "truncation")

    min_words: int = Field(3, ge=0, description="fewer words fail `length`")
    max_words: int = Field(1500, ge=1, description="more words fail `length`")
    max_repeated: float = Field(0.2, ge=0, le=1, description="larger share of repeated 5-grams fails `repetition`")
    max_foreign: float = Field(0.2, ge=0, le=1, description="larger share of foreign words fails `language`")

    def judge(self, answers: Sequence[Answer], ctx: Context) -> list[list[Verdict]]:
        """Apply every rule to every answer."""
        del ctx
        return [
            [
                self._length(answer),
                self._repetition(answer),
                self._language(answer),
                self._refusal(answer),
                self._cut(answer),
            ]
            for answer in answers
        ]

    def _verdict(self, aspect: str, score: float, failed: str | None) -> Verdict:
        label = "pass" if failed is None else "fail"
        return Verdict(
            judge=self.name, version=self.version, aspect=aspect, score=round(score, 4), label=label, rationale=failed
        )

    def _length(self, answer: Answer) -> Verdict:
        count = len(words_of(answer.text))
        failed = None
        if count < self.min_words:
            failed = f"{count} words, at least {self.min_words} wanted"
        elif count > self.max_words:
            failed = f"{count} words, at most {self.max_words} wanted"
        return self._verdict("length", count, failed)

    def _repetition(self, answer: Answer) -> Verdict:
        share = repeated_share(answer.text)
        return self._verdict(
            "repetition", share, f"{share:.0%} of the words repeat earlier ones" if share > self.max_repeated else None
        )

    def _language(self, answer: Answer) -> Verdict:
        """Fail when the whole text is in a wrong language, or too many of its sentences are.

        Prompts that translate may be answered in, and quote, the languages they name; nothing else may.
        """
        allowed = asked_languages(answer.prompt) | {answer.language}
        reading = read(answer.text, answer.language)
        share = 0.0 if reading.foreign in allowed else reading.foreign_share
        failed = None
        if share > self.max_foreign:
            failed = f"{share:.0%} of the words are in {reading.foreign!r}, {answer.language!r} wanted"
        elif (
            reading.language not in allowed | {UNDECIDED} and reading.words >= _SURE_WORDS and reading.confidence > 0.5
        ):
            failed, share = f"the answer is in {reading.language!r}, {answer.language!r} wanted", max(share, 1.0)
        return self._verdict("language", share, failed)

    def _refusal(self, answer: Answer) -> Verdict:
        found = refusal(answer.text)
        return self._verdict("refusal", float(found is not None), None if found is None else f"refuses: {found!r}")

    def _cut(self, answer: Answer) -> Verdict:
        reason = "stopped at the token limit" if answer.candidate.finish_reason == "length" else cut_off(answer.text)
        return self._verdict("truncation", float(reason is not None), reason)


_SURE_WORDS = 4


def asked_languages(prompt: str) -> set[str]:
    """Languages an answer may be in because the prompt translates and names them.

    Only the opening and the end of a prompt give orders; "Reply in Italian" overrules all else.
    """
    orders = prompt if len(prompt) <= 2 * _ORDER_CHARS else f"{prompt[:_ORDER_CHARS]}\n{prompt[-_ORDER_CHARS:]}"
    if _REPLY_IN.search(orders) or not _TRANSLATES.search(orders):
        return set()
    return {code for code, names in _NAMED.items() if re.search(rf"\b(?:{names})\b", orders, re.IGNORECASE)}


JUDGE = Rules
