"""Every file either reads, or says what is wrong with it; every bad record is a reject with line and reason."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from fucina.factory.errors import InputError
from fucina.factory.sources import Record, Reject, files_of, read_dataset, read_file

LIMIT = 1_000_000


def read(path: Path) -> list[Record | Reject]:
    return list(read_file(path, LIMIT))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_invalid_json_on_line_3_is_one_reject_and_the_rest_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"prompt": "uno"}\n\n{"prompt": "due"\n{"prompt": "tre"}\n')
    one, bad, three = read(path)
    assert isinstance(one, Record)
    assert isinstance(three, Record)
    assert (one.line, three.line) == (1, 4)
    assert isinstance(bad, Reject)
    assert bad.line == 3
    assert bad.reason.startswith("invalid JSON: Expecting")
    assert bad.raw == '{"prompt": "due"\n'


def test_a_bom_is_no_part_of_the_first_record(tmp_path: Path) -> None:
    [record] = read(write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"prompt": "ciao"}\n'))
    assert isinstance(record, Record)
    assert record.fields == {"prompt": "ciao"}
    [row] = read(write(tmp_path / "a.csv", b"\xef\xbb\xbfprompt,lang\nciao,it\n"))
    assert isinstance(row, Record)
    assert row.fields == {"prompt": "ciao", "lang": "it"}


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.jsonl.gz"])
def test_an_empty_file_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"a\..*: the file is empty"):
        read(write(tmp_path / name, b""))


def test_a_file_of_blank_lines_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no records"):
        read(write(tmp_path / "a.jsonl", b"\n \n"))


def test_a_truncated_gzip_names_the_last_good_line(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b'{"prompt": "numero %d di molti, %d"}\n' % (i, i * 7919) for i in range(5000)))
    path = write(tmp_path / "a.jsonl.gz", whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.jsonl\.gz: the compressed file is damaged or cut off after line \d+"):
        read(path)


def test_a_gzip_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="damaged or cut off after line 0"):
        read(write(tmp_path / "a.jsonl.gz", b'{"prompt": "ciao"}\n'))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"prompt": "a\0b"}', "NUL byte"),
        (b'{"prompt": "a\\u0000b"}', "NUL byte"),
        (b'{"prompt": "caff\xe8"}', "not UTF-8: byte 17"),
        (b'["prompt"]', "not an object: the line holds a list"),
        (b'{"prompt": "' + b"x" * 10_000_000 + b'"}', "row too large: 10000015 bytes"),
        (b"[" * 100_000, "invalid JSON"),
    ],
)
def test_bad_lines_are_rejects(tmp_path: Path, line: bytes, reason: str) -> None:
    good = b'{"prompt": "ciao"}\n'
    first, bad, last = read(write(tmp_path / "a.jsonl", good + line + b"\n" + good))
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert isinstance(bad, Reject)
    assert reason in bad.reason
    assert len(bad.raw) <= 2_000


def test_csv_keeps_line_breaks_in_fields_and_rejects_ragged_rows(tmp_path: Path) -> None:
    one, ragged, two = read(write(tmp_path / "a.csv", b'prompt,id\n"riga uno\nriga due",1\nsolo,2,3\nciao,\n'))
    assert isinstance(one, Record)
    assert one.fields == {"prompt": "riga uno\nriga due", "id": "1"}
    assert isinstance(ragged, Reject)
    assert ragged.reason == "wrong number of fields: 3, the header has 2"
    assert ragged.line == 4
    assert isinstance(two, Record)
    assert two.fields == {"prompt": "ciao", "id": None}


def test_csv_with_a_column_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.csv, line 1: a column name stands twice"):
        read(write(tmp_path / "a.csv", b"prompt,prompt\nuno,due\n"))


def test_parquet_and_folders(tmp_path: Path) -> None:
    pl.DataFrame({"prompt": ["a", "b"]}).write_parquet(tmp_path / "b.parquet")
    write(tmp_path / "a.jsonl", b'{"prompt": "c"}\n')
    write(tmp_path / "README.md", b"not data")
    found = [
        record.fields["prompt"] for path in files_of(tmp_path) for record in read(path) if isinstance(record, Record)
    ]
    assert found == ["c", "a", "b"]


def test_a_broken_parquet_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.parquet: not a readable Parquet file"):
        read(write(tmp_path / "a.parquet", b"PAR1 and nothing else"))


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        files_of(tmp_path / "no.jsonl")
    with pytest.raises(InputError, match="no data files in this folder"):
        files_of(tmp_path)
    with pytest.raises(InputError, match="cannot tell the format"):
        files_of(write(tmp_path / "a.txt", b"x"))


def test_a_datasets_folder_and_an_unreachable_one(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"prompt": ["ciao", "addio"], "n": [1, 2]}).save_to_disk(tmp_path / "set")
    rows = list(read_dataset(str(tmp_path / "set"), "train", LIMIT))
    assert [row.fields for row in rows if isinstance(row, Record)] == [
        {"prompt": "ciao", "n": 1},
        {"prompt": "addio", "n": 2},
    ]
    with pytest.raises(InputError, match="no-such/data-set"):
        list(read_dataset("no-such/data-set", "train", LIMIT))
