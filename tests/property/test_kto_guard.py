"""The guard accepts an order exactly when every batch TRL would cut from it is sound."""

from hypothesis import given
from hypothesis import strategies as st

from fucina.factory.errors import InputError
from fucina.train.windows import usable_rows

ROWS = st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef")), min_size=1, max_size=24)


def sound(batch: list[tuple[bool, str]]) -> bool:
    labels, prompts = {label for label, _ in batch}, {prompt for _, prompt in batch}
    return len(labels) == 2 and len(prompts) == len(batch)


@given(rows=ROWS, size=st.integers(2, 6))
def test_what_the_guard_lets_through_is_sound(rows, size):
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    whole = [batch for batch in batches if len(batch) == size]
    try:
        usable = usable_rows([label for label, _ in rows], [prompt for _, prompt in rows], size)
    except InputError:
        assert not all(sound(batch) for batch in whole) or not whole
        return
    assert all(sound(rows[start : start + size]) for start in range(0, usable, size))
    assert len(rows) - usable < size
    if usable < len(rows):
        assert not sound(batches[-1])


@given(rows=ROWS, size=st.integers(2, 6))
def test_the_guard_sees_nothing_but_equality_of_prompts(rows, size):
    """Renaming prompts changes nothing."""
    labels, prompts = [label for label, _ in rows], [prompt for _, prompt in rows]

    def verdict(names: list[str]) -> int | str:
        try:
            return usable_rows(labels, names, size)
        except InputError as error:
            return error.message

    assert verdict(prompts) == verdict([f"prompt {name}" for name in prompts])
