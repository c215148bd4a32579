"""Which language a text is in, by text and by line, with lingua.

Code, URLs, quoted titles and JSON keys are no evidence of an answer's language and are taken out first. Lines
under five words are too short to tell (lingua's own report: single Italian words 69 %, sentences 99.7 %), so
they are judged together with the whole text only.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from lingua import IsoCode639_1, Language, LanguageDetector, LanguageDetectorBuilder

UNDECIDED = "und"
_MIN_LINE_WORDS = 5
_MIN_TEXT_WORDS = 2
_MIN_PROSE_WORDS = 4
_MIN_CONFIDENCE = 0.4
_CODE = r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|\S+@\S+|<[^<>\n]{1,80}>|\$[^$\n]+\$"
_QUOTATION = r"\"[^\"\n]{1,2000}\"|«[^»\n]{1,2000}»|“[^”\n]{1,2000}”"
_NOISE = re.compile(f"{_CODE}|{_QUOTATION}", re.DOTALL)
# An answer cut off inside a JSON string still shows its language, so the closing mark may be missing.
_QUOTED = re.compile(rf"{_QUOTATION}|\"[^\"\n]{{1,2000}}")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
# The languages that post-training data for Italian meets: its neighbours, the teachers' own, the web's largest.
# Latin is left out on purpose: with it, plain Italian sentences full of English terms are taken for Latin.
_KNOWN = ("it", "en", "es", "fr", "de", "pt", "ca", "ro", "nl", "zh", "ja", "ko", "ru", "ar")


@lru_cache(maxsize=1)
def _detector() -> LanguageDetector:
    languages = [Language.from_iso_code_639_1(getattr(IsoCode639_1, code.upper())) for code in _KNOWN]
    return LanguageDetectorBuilder.from_languages(*languages).with_preloaded_language_models().build()


@dataclass(frozen=True)
class Reading:
    """What a text is written in.

    `language` is the text's language as a whole; `words` counts words of running text; `foreign_words` counts
    those in lines that are in another language than `expected`, and `foreign` names that line's language.
    """

    language: str
    confidence: float
    words: int
    foreign_words: int = 0
    foreign: str | None = None

    @property
    def foreign_share(self) -> float:
        """Share of words that stand in foreign lines, 0 to 1."""
        return self.foreign_words / self.words if self.words else 0.0


def running_text(text: str) -> str:
    """The text without code, URLs, addresses, mark-up and quotations.

    An answer that is hardly more than quotations (a JSON object, a list of titles) is known by them instead.
    """
    prose = _NOISE.sub(" ", text)
    quoted = [
        found.group().strip('"«»“”') for found in _QUOTED.finditer(text) if len(_WORD.findall(found.group())) >= 3
    ]
    if len(_WORD.findall(prose)) < _MIN_PROSE_WORDS and quoted:
        return "\n".join([prose, *quoted])
    return prose


def detect(text: str) -> tuple[str, float]:
    """ISO 639-1 code and confidence in 0 to 1; `und` for fewer than two words, or where no language stands out."""
    words = _WORD.findall(running_text(text))
    if len(words) < _MIN_TEXT_WORDS:
        return UNDECIDED, 0.0
    [best, *_] = _detector().compute_language_confidence_values(" ".join(words))
    if best.value < _MIN_CONFIDENCE:
        return UNDECIDED, best.value
    return best.language.iso_code_639_1.name.lower(), best.value


def read(text: str, expected: str) -> Reading:
    """Language of a text and of its lines, measured against the language it should be in."""
    language, confidence = detect(text)
    words = foreign_words = 0
    foreign: str | None = None
    for line in _sentences(running_text(text)):
        line_words = _WORD.findall(line)
        words += len(line_words)
        if len(line_words) < _MIN_LINE_WORDS:
            continue
        found, sure = detect(line)
        if found not in {expected, UNDECIDED} and sure >= 0.5:
            foreign_words += len(line_words)
            foreign = found
    return Reading(language, confidence, words, foreign_words, foreign)


def _sentences(text: str) -> list[str]:
    """Lines, and sentences inside long lines: half-English answers often change language within a paragraph."""
    return [part for line in text.splitlines() for part in re.split(r"(?<=[.!?:;])\s+", line) if part.strip()]
