"""The order of a KTO set: every window mixes labels and holds distinct prompts (T12)."""

from hypothesis import given
from hypothesis import strategies as st

from fucina.pipelines.formats.kto import arrange

KEYS = st.lists(st.integers(0, 40), max_size=60)


@given(KEYS, KEYS, st.integers(2, 9))
def test_every_window_is_sound(good: list[int], bad: list[int], window: int) -> None:
    rows = arrange(
        [(key, True) for key in good], [(key, False) for key in bad], list(map(str, good)), list(map(str, bad)), window
    )
    assert len(rows) % window == 0
    for start in range(len(rows) - window + 1):
        part = rows[start : start + window]
        assert len({key for key, _ in part}) == window
        assert {label for _, label in part} == {True, False}


@given(st.integers(4, 80), st.integers(2, 8))
def test_pairs_are_nearly_all_used(pairs: int, window: int) -> None:
    """One good and one bad answer a prompt, the usual case: only what does not fill a last window is cut."""
    keys = [str(i) for i in range(pairs)]
    rows = arrange([(key, True) for key in keys], [(key, False) for key in keys], keys, keys, window)
    if pairs >= 2 * window:
        assert len(rows) == 2 * pairs // window * window
    assert len(set(rows)) == len(rows)


def test_the_commoner_label_is_cut_when_the_other_is_too_rare() -> None:
    good = [(i, True) for i in range(100)]
    rows = arrange(good, [(200, False), (201, False)], [str(i) for i in range(100)], ["200", "201"], 4)
    assert len(rows) == 8
    assert arrange(good, [], [str(i) for i in range(100)], [], 4) == []
