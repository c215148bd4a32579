"""Repetition, refusals and cut-off answers."""

import pytest

from fucina.factory.textsignals import cut_off, refusal, repeated_share


def test_repeated_share() -> None:
    once = "Lava il riso, copri con due dita d'acqua e cuoci a fuoco basso per dodici minuti."
    assert repeated_share(once) == 0.0
    assert repeated_share(f"{once} {once} {once}") == pytest.approx(2 / 3)
    assert repeated_share("") == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "Mi dispiace, ma non posso aiutarti con questa richiesta.",
        "Purtroppo non sono in grado di rispondere a questa domanda.",
        "In quanto modello linguistico, non ho opinioni personali.",
        "Preferisco non rispondere a questa domanda.",
        "Non posso fornire informazioni su questo argomento.",
        "I'm sorry, but I can't help with that.",
        "As an AI language model, I cannot give medical advice.",
    ],
)
def test_refusals(text: str) -> None:
    assert refusal(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "Non posso che consigliarti la strada costiera: è più lunga, ma il panorama ripaga.",
        "Mi dispiace per la tua perdita. Ecco un biglietto breve e affettuoso.",
        "Non posso fare a meno di notare due errori nel testo.",
        "Il contratto non è in grado di produrre effetti prima della firma.",
        "L'albero non può crescere senza luce: spostalo vicino alla finestra.",
    ],
)
def test_not_refusals(text: str) -> None:
    assert refusal(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("La ricetta prevede tre uova e un po' di", "ends with 'di'"),
        ("Servono farina, acqua,", "ends with ','"),
        ("Restano quindi da dipingere tutte le pareti della stanza con due mani piene di pittura bianca", "not closed"),
        ("Ecco il codice:\n```python\nprint(1)", "code block"),
    ],
)
def test_cut_off(text: str, reason: str) -> None:
    assert reason in (cut_off(text) or "")


@pytest.mark.parametrize(
    "text",
    [
        "La frase è finita.",
        "Davvero?",
        "1. Uova\n2. Farina\n3. Latte intero a temperatura ambiente con un pizzico di sale fino",
        "Cordiali saluti,\nMarta Renzi",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "```python\nprint(1)\n```",
        "Buon compleanno 🎉",
    ],
)
def test_whole(text: str) -> None:
    assert cut_off(text) is None
