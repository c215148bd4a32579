"""Cheap signals of a text: repetition, refusal, truncation. Italian and English."""

import re

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_LIST_ITEM = re.compile(r"^\s*(?:[-*+•–—]|\d+[.)]|[a-zA-Z][.)]|#{1,6}\s|>|\|)")
_CLOSED = re.compile(r"[.!?…:;)\]}»”\"'`*_|~>]$|[\U0001F000-\U0001FAFF\u2600-\u27BF]\ufe0f?$")
# A text that ends on one of these goes on: articles, prepositions, conjunctions, auxiliaries, relative pronouns.
_DANGLING = frozenset(
    re.findall(
        r"\S+",
        """
        il lo la i gli le un uno una di a da in con su per tra fra e ed o od ma che chi cui non si né se come quando
        mentre perché poiché dove del dello della dei degli delle al allo alla ai agli alle dal dallo dalla dai dagli
        dalle nel nello nella nei negli nelle sul sullo sulla sui sugli sulle è sono era ha hanno più anche quindi
        the an of to in and or but that which with for from by is are was were has have as at on not
        """,
    )
)
_SHORT_LINE_WORDS = 7

_SORRY = r"\b(?:mi (?:dispiace|spiace|scuso|rincresce)|spiacente|purtroppo|sono desolat[oa])\b"
_UNABLE = (
    r"\bnon (?:posso|riesco|sono (?:in grado|autorizzat\w+|programmat\w+)|mi è (?:possibile|consentito)"
    r"|ho (?:la possibilità|accesso))\b"
)
# What an assistant says it cannot do; "non posso che consigliarti" and "non posso fare a meno" refuse nothing.
_TASK = (
    r"(?:aiutar|rispond|forni|dar|scriv|soddisf|assist|eseguir|completar|procedere|generar|svolger|occupar|elaborar"
    r"|esprimer|offrir|accontentar)\w*|fare|farlo|creare|produrre|tradurre|comporre"
)
_MACHINE = r"(?:modello (?:linguistico|di linguaggio)|intelligenza artificiale|assistente virtuale|IA|AI)"
_REFUSAL = re.compile(
    "|".join(
        (
            rf"{_SORRY}[^.!?\n]{{0,60}}{_UNABLE}",
            r"^\W*(?:(?:purtroppo|mi dispiace ma),? )?non (?:posso|mi è possibile|sono in grado di)"
            rf" (?!che\b|non\b|fare a meno\b)(?:\w+ ){{0,2}}?(?:{_TASK})",
            rf"\b(?:in quanto|come|essendo(?: un)?|sono(?: solo)?) (?:un['’ ]?\s?)?{_MACHINE}\b[^.!?\n]{{0,80}}\bnon\b",
            r"\bpreferisco non (?:rispondere|scrivere|fornire|dare|aiutare|occuparmi|trattare|entrare)\b",
            r"\bnon (?:me la sento di|è appropriato che io"
            r"|rientra (?:nelle|tra le) (?:mie )?(?:competenze|possibilità|capacità|funzioni))\b",
            r"\b(?:devo|sono costrett[oa] a) (?:declinare|rifiutare)\b",
            r"\bi(?:['’]m| am) (?:very |so )?sorry\b[^.!?\n]{0,60}\b(?:can(?:no|['’])t|unable|not able|won['’]t)\b",
            r"^\W*(?:sorry,? |unfortunately,? )?i (?:can(?:no|['’])t|am (?:unable|not able) to|won['’]t|must decline)\b"
            r"(?! (?:wait|believe|stress|help but))",
            r"\bas an? (?:ai|artificial intelligence|large language|language)\b[^.!?\n]{0,80}"
            r"\b(?:not|can(?:no|['’])t|unable|don['’]t)\b",
            r"\bi(?:['’]m| am) (?:unable|not able) to (?:help|assist|provide|answer|fulfil|comply|write)",
        )
    ),
    re.IGNORECASE | re.MULTILINE,
)
_REFUSAL_WINDOW = 250


def words_of(text: str) -> list[str]:
    """Words in lower case, apostrophes kept inside."""
    return [word.lower() for word in _WORD.findall(text)]


def repeated_share(text: str, size: int = 5) -> float:
    """Share of the text's words that stand in a word n-gram seen earlier in the text, 0 to 1."""
    words = words_of(text)
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    for start in range(len(words) - size + 1):
        gram = tuple(words[start : start + size])
        if gram in seen:
            covered.update(range(start, start + size))
        seen.add(gram)
    return len(covered) / len(words) if words else 0.0


def refusal(text: str) -> str | None:
    """The words that refuse, if the text opens with a refusal."""
    found = _REFUSAL.search(text[:_REFUSAL_WINDOW])
    return found.group(0) if found else None


def cut_off(text: str) -> str | None:
    """Why the text seems to stop in the middle, or None.

    A closed sentence, list item, table, code block or short last line (a signature, a verse) is an end.
    """
    stripped = text.rstrip()
    if stripped.count("```") % 2:
        return "a code block is not closed"
    lines = stripped.splitlines()
    if not lines or _CLOSED.search(stripped):
        return None
    last = lines[-1]
    words = words_of(last)
    if stripped.endswith((",", "-", "–", "(", "«")):
        return f"ends with {stripped[-1]!r}"
    if words and words[-1] in _DANGLING:
        return f"ends with {words[-1]!r}"
    if _LIST_ITEM.match(last) or len(words) <= _SHORT_LINE_WORDS:
        return None
    return "the last sentence is not closed"
