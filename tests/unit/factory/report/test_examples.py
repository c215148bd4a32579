from fucina.factory.report.examples import EXAMPLES, pick_examples
from fucina.factory.report.rows import read_rows


def examples_of(run):
    manifest = run.manifest()
    return pick_examples(run.path, manifest, read_rows(run.path, manifest), seed=17)


def test_each_task_type_comes_before_a_second_of_any(make, asked):
    prompts = [asked(f"Domanda {n}?", f"Risposta buona {n}.", f"No {n}.", f"tipo-{min(n, 8)}") for n in range(40)]
    categories = [example.category for example in examples_of(make(prompts))]
    assert len(categories) == EXAMPLES
    assert len(set(categories[:9])) == 9


def test_the_choice_is_the_same_every_time(finished):
    assert examples_of(finished) == examples_of(finished)


def test_an_example_holds_both_answers_their_verdicts_and_the_reasons(finished):
    [example] = [example for example in examples_of(finished) if example.category == "traduzione"]
    assert example.source == "semi.jsonl:4"
    assert (example.chosen.origin, example.chosen.why) == ("teacher", "passes every rule")
    assert example.rejected is not None
    assert example.rejected.text == "Si dice «buongiorno», e si usa la"
    [failed] = [note for note in example.rejected.notes if note.label == "fail"]
    assert (failed.aspect, failed.why) == ("truncation", "truncation rule broken")


def test_long_texts_are_cut_and_say_by_how_much(make, asked):
    [example] = examples_of(make([asked("p" * 2_000, "a" * 1_601 + ".", "Corta.")]))
    assert (len(example.prompt), example.more) == (1_600, 400)
    assert (len(example.chosen.text), example.chosen.more) == (1_600, 2)
    assert example.rejected is not None
    assert example.rejected.more == 0
