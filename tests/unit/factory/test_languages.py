"""Language of texts and of their lines, on hard cases."""

import pytest

from fucina.factory.languages import UNDECIDED, detect, read


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Il gatto dorme sul divano mentre fuori piove.", "it"),
        ("The cat sleeps on the sofa while it rains outside.", "en"),
        ("El gato duerme en el sofá mientras afuera llueve.", "es"),
        ("Mi serve uno script Python che legga un file di testo.", UNDECIDED),
        (
            'Che cosa dice questo avviso? "Liebe Mieter, am Dienstag wird das Wasser abgestellt, bitte die Hähne schließen."',
            "it",
        ),
        ("", UNDECIDED),
        ("42", UNDECIDED),
        ("```python\nprint('hello world')\n```", UNDECIDED),
    ],
)
def test_detect(text: str, code: str) -> None:
    assert detect(text)[0] == code


def test_half_english_is_seen_within_a_paragraph() -> None:
    text = "Per fare il pane servono farina, acqua e lievito. First you have to mix the flour with the water very well."
    reading = read(text, "it")
    assert reading.foreign == "en"
    assert 0.4 < reading.foreign_share < 0.7


def test_code_urls_and_quotations_are_no_foreign_words() -> None:
    text = (
        "Puoi usare questo comando, che stampa un saluto:\n```python\nprint('this is a long english sentence')\n```\n"
        'Il film si chiama "The good, the bad and the ugly" e la guida è su https://example.org/the/best/guide.'
    )
    assert read(text, "it").foreign_words == 0


def test_a_json_answer_is_known_by_its_values() -> None:
    text = '```json\n{"a": "Three tents catch fire in the park", "b": "A woman was trapped under a car yesterday"}\n```'
    assert read(text, "it").language == "en"
