import pytest

from fucina.factory.errors import InputError
from fucina.train.rows import read_rows
from fucina.train.windows import in_sound_batches, usable_rows, whole_windows


def test_a_sound_order_passes():
    assert usable_rows([True, False, True, False], ["a", "b", "c", "d"], 4) == 4
    assert usable_rows([True, False, True, False], ["a", "b", "a", "b"], 2) == 4


def test_all_good_then_all_bad_is_refused():
    """What `unpair_preference_dataset` makes of pairs."""
    with pytest.raises(InputError, match="rows 1 to 2 are one batch and hold only `true` labels"):
        usable_rows([True, True, False, False], ["a", "b", "a", "b"], 2)


def test_a_prompt_twice_in_a_batch_is_refused():
    with pytest.raises(InputError, match="rows 3 to 4 .* one prompt twice"):
        usable_rows([True, False, True, False], ["a", "b", "c", "c"], 2)


def test_a_short_last_batch_is_used_only_if_sound():
    assert usable_rows([True, False, True], ["a", "b", "c"], 2) == 2
    assert usable_rows([True, False, True, False, True, False], list("abcdef"), 4) == 6
    assert usable_rows([True, False, True, False, True, True], list("abcdef"), 4) == 4


def test_less_than_one_sound_batch_is_refused():
    with pytest.raises(InputError, match="less than one batch of 4 and hold a single row"):
        usable_rows([True], ["a"], 4)


def test_rows_of_a_set_are_told_apart_by_their_prompt(run):
    frame = read_rows(run / "datasets" / "kto", "kto").frame
    kept, notes = in_sound_batches(frame, 4)
    assert kept.equals(frame)
    assert notes == []
    kept, notes = in_sound_batches(frame.head(29), 4)
    assert kept.height == 28
    assert notes == ["the last 1 of 29 rows left out: they form no sound batch"]
    with pytest.raises(InputError, match="one prompt twice"):
        in_sound_batches(frame, 32)


def test_a_row_that_does_not_fit_takes_its_window_along():
    assert whole_windows([True, True, True, False, True, True], 2) == [True, True, False, False, True, True]
    assert whole_windows([True, True, False], 2) == [True, True, False]
    assert whole_windows([True, False, True], 1) == [True, False, True]
