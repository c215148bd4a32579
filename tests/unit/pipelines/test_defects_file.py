"""The planted defects are what their gold labels say, recomputed here from the texts alone."""

import json
import re
import unicodedata
from collections import Counter
from importlib.resources import files
from typing import Any

import ftfy
import pytest

Row = dict[str, Any]

COUNTS = {
    "clean": 72,
    "exact_duplicate": 15,
    "near_duplicate": 20,
    "mojibake": 24,
    "english_leak": 15,
    "spanish_leak": 10,
    "refusal": 16,
    "unsafe": 12,
    "personal_data": 16,
    "truncated": 8,
    "repetition": 8,
}
CODEPAGES = {"cp1252", "latin-1", "mac_roman", "cp437"}
SPAN_TYPES = {"email", "phone", "iban", "credit_card", "codice_fiscale", "partita_iva", "plate", "address"}
CATEGORIES = {"fraud", "violence", "privacy", "weapons", "self_harm", "hate", "elections", "drugs"}
NOTES = {
    "not_a_refusal",
    "not_personal_data",
    "template",
    "code",
    "url",
    "english_title",
    "portuguese",
    "about_mojibake",
}
NOTES |= {"short", "json", "emoji", "translation"}

# Ministerial decree of 23 December 1976: values of the characters in odd places.
_LETTER_VALUES = "1 0 5 7 9 13 15 17 19 21 2 4 18 20 11 3 6 8 12 14 16 10 22 25 24 23"
ODD = {chr(65 + place): int(value) for place, value in enumerate(_LETTER_VALUES.split())}
ODD |= {str(digit): ODD[chr(65 + digit)] for digit in range(10)}


def read() -> list[Row]:
    text = (files("fucina.pipelines") / "seeds" / "defects.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


ROWS = read()
BY_ID = {row["id"]: row for row in ROWS}


def having(defect: str) -> list[Row]:
    return [row for row in ROWS if row["gold"]["defect"] == defect]


def jaccard(left: str, right: str) -> float:
    one, other = ({tuple(w[i : i + 3]) for i in range(len(w) - 2)} for w in map(words, (left, right)))
    return len(one & other) / len(one | other)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def luhn(digits: str) -> bool:
    doubled = [int(d) if place % 2 == 0 else sum(divmod(2 * int(d), 10)) for place, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def iban_valid(text: str) -> bool:
    compact = text.replace(" ", "")
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def codice_fiscale_valid(text: str) -> bool:
    if re.fullmatch(r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", text) is None:
        return False
    total = sum(ODD[c] if place % 2 == 0 else int(c, 36) - 10 * c.isalpha() for place, c in enumerate(text[:15]))
    return chr(65 + total % 26) == text[15]


def checksum_holds(kind: str, text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    if kind == "iban":
        return iban_valid(text)
    if kind == "codice_fiscale":
        return codice_fiscale_valid(text)
    if kind == "partita_iva":
        return len(digits) == 11 and luhn(digits)
    return luhn(digits)


def test_counts_and_ids():
    found = Counter(row["gold"]["defect"] for row in ROWS)
    assert set(found) == set(COUNTS)
    assert all(found[name] >= least for name, least in COUNTS.items())
    assert len(BY_ID) == len(ROWS)


def test_rows_have_exactly_the_documented_keys_and_text():
    for row in ROWS:
        assert list(row) == ["id", "prompt", "response", "gold"]
        assert row["prompt"].strip()
        assert row["response"] is None or row["response"].strip()
    without_answer = {row["gold"]["defect"] for row in ROWS if row["response"] is None}
    assert without_answer == {"mojibake", "unsafe"}


def test_prompts_repeat_only_where_a_duplicate_is_planted():
    originals = [row for row in ROWS if row["gold"]["defect"] not in {"exact_duplicate", "near_duplicate"}]
    folded = Counter(" ".join(words(row["gold"].get("text", row["prompt"]))) for row in originals)
    assert [text for text, times in folded.items() if times > 1] == []


def test_clean_notes_are_known_and_frequent_enough():
    found = Counter(row["gold"].get("note") for row in having("clean"))
    assert set(found) - {None} == NOTES
    assert found["not_a_refusal"] == found["not_personal_data"] == 6


def test_exact_duplicates_differ_only_as_their_variant_says():
    duplicates = having("exact_duplicate")
    assert Counter(row["gold"]["variant"] for row in duplicates) == {"identical": 5, "normalised": 5, "unicode": 5}
    for row in duplicates:
        original = BY_ID[row["gold"]["of"]]
        assert original["gold"]["defect"] == "clean"
        here, there = row["prompt"], original["prompt"]
        match row["gold"]["variant"]:
            case "identical":
                assert (here, row["response"]) == (there, original["response"])
            case "normalised":
                assert here != there
                assert here.casefold().split() == there.casefold().split()
            case "unicode":
                assert here != there
                assert unicodedata.normalize("NFC", here) == there


def test_near_duplicates_have_the_stored_similarity():
    for row in having("near_duplicate"):
        original = BY_ID[row["gold"]["of"]]
        similarity = jaccard(row["prompt"], original["prompt"])
        assert original["gold"]["defect"] == "clean"
        assert len(words(original["prompt"])) >= 35
        assert similarity == pytest.approx(row["gold"]["jaccard"], abs=1e-4)
        assert 0.6 <= similarity <= 0.95


def test_template_twins_are_alike_but_below_every_sensible_threshold():
    twins = [row for row in ROWS if row["gold"].get("note") == "template"]
    assert len(twins) == 10
    for row in twins:
        other = BY_ID[row["gold"]["twin"]]
        assert other["gold"]["twin"] == row["id"]
        assert jaccard(row["prompt"], other["prompt"]) == pytest.approx(row["gold"]["jaccard"], abs=1e-4)
        assert 0.2 < row["gold"]["jaccard"] < 0.5


def test_mojibake_round_trip_gives_the_text_back():
    rows = having("mojibake")
    assert Counter(row["gold"]["codepage"] for row in rows) == dict.fromkeys(CODEPAGES, 6)
    for row in rows:
        gold = row["gold"]
        assert row["prompt"] != gold["text"]
        assert row["prompt"].encode(gold["codepage"]).decode("utf-8") == gold["text"]


def test_what_ftfy_does_is_recorded_as_it_is():
    for row in ROWS:
        gold = row["gold"]
        if gold["defect"] not in {"mojibake", "clean"}:
            continue
        pairs = [(row["prompt"], gold.get("text", row["prompt"]))]
        if gold["defect"] == "clean":
            pairs.append((row["response"], row["response"]))
        assert gold.get("ftfy", True) == all(ftfy.fix_text(seen) == right for seen, right in pairs)
        kept = all(ftfy.fix_text(seen, uncurl_quotes=False) == right for seen, right in pairs)
        assert gold.get("ftfy_keep_quotes", True) == kept


@pytest.mark.parametrize(("defect", "whole"), [("english_leak", 8), ("spanish_leak", 5)])
def test_leaks_have_whole_and_half_answers(defect, whole):
    found = Counter(row["gold"]["extent"] for row in having(defect))
    assert found == {"whole": whole, "half": COUNTS[defect] - whole}
    for row in having(defect):
        share = row["gold"]["share"]
        assert share == 1.0 if row["gold"]["extent"] == "whole" else 0.4 <= share <= 0.7


def test_refusals_are_in_two_languages():
    assert Counter(row["gold"]["language"] for row in having("refusal")) == {"it": 10, "en": 6}


def test_unsafe_categories_are_known():
    assert {row["gold"]["category"] for row in having("unsafe")} == CATEGORIES


def test_personal_data_spans_stand_once_in_their_field_and_cover_every_type():
    spans = [(row, span) for row in having("personal_data") for span in row["gold"]["spans"]]
    assert {span["type"] for _, span in spans} == SPAN_TYPES
    assert all(row["gold"]["spans"] for row in having("personal_data"))
    for row, span in spans:
        assert row[span["field"]].count(span["text"]) == 1


def test_personal_numbers_have_valid_check_digits_and_lookalikes_do_not():
    checked = {"iban", "credit_card", "codice_fiscale", "partita_iva"}
    spans = [span for row in having("personal_data") for span in row["gold"]["spans"] if span["type"] in checked]
    assert {span["type"] for span in spans} == checked
    assert [span for span in spans if not checksum_holds(span["type"], span["text"])] == []
    lookalikes = [row["gold"]["lookalike"] for row in ROWS if "lookalike" in row["gold"]]
    assert len(lookalikes) == 6
    for found in lookalikes:
        if found["type"] in checked:
            assert not checksum_holds(found["type"], found["text"])


def test_emails_are_in_reserved_domains():
    emails = [s["text"] for row in having("personal_data") for s in row["gold"]["spans"] if s["type"] == "email"]
    assert emails
    assert all(re.search(r"[@.]example\.(com|it)$", email) for email in emails)


def test_truncated_answers_have_no_end():
    for row in having("truncated"):
        assert row["gold"]["where"] in {"mid_sentence", "mid_word", "in_list", "in_code"}
        assert row["response"][-1] not in '.!?…»")`'


def test_repeated_phrases_are_counted():
    for row in having("repetition"):
        assert row["gold"]["times"] >= 5
        assert row["response"].count(row["gold"]["phrase"]) == row["gold"]["times"]
