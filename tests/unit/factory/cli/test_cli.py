"""The command line as a user meets it: output, errors with a fix, exit codes."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fucina.factory.cli.main import main


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["fucina", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


@pytest.fixture
def fucina(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *arguments: run(monkeypatch, capsys, *arguments)


@pytest.mark.parametrize("what", ["stages", "judges", "engines", "formats", "recipes"])
def test_list(fucina: Any, what: str) -> None:
    status, out, _ = fucina("list", what, "--json")
    found = json.loads(out)
    assert status == 0
    assert found
    assert all(entry["about"] and not entry["about"].startswith("cannot be loaded") for entry in found)
    status, text, _ = fucina("list", what)
    assert all(entry["name"] in text for entry in found)


def test_list_of_the_unknown_offers_the_nearest(fucina: Any) -> None:
    status, _, err = fucina("list", "stagess")
    assert status == 1
    assert "did you mean 'stages'" in err


def test_stage(fucina: Any, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": 7, "prompt": "Ciao a tutti"}\n{"id": 8, "prompt": "ciao a TUTTI!"}\n', encoding="utf-8")
    status, out, err = fucina("stage", "deduplicate", str(source), "--out", str(tmp_path / "out.jsonl"), "--json")
    summary = json.loads(out)
    assert (status, err) == (0, "")
    assert (summary["rows_in"], summary["kept"], summary["dropped"]) == (2, 1, {"exact duplicate": 1})
    assert summary["seconds"] >= 0
    assert Path(summary["dropped_file"]).name == "out.dropped.jsonl"
    _, text, _ = fucina("stage", "deduplicate", str(source), "--out", str(tmp_path / "out.jsonl"))
    assert "2 in, 1 kept, 1 dropped (exact duplicate 1)" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "italian"), "did you mean 'italiano'"),
        (("stage", "deduplicat", "x.jsonl", "--out", "y.jsonl"), "did you mean 'deduplicate'"),
        (("stage", "repair", "nowhere.jsonl", "--out", "y.jsonl"), "nowhere.jsonl"),
        (("report", "nowhere"), "not a run directory"),
        (("trace", "nowhere", "abc"), "not a run directory"),
        (
            ("run", "demo", "--set", "engines.teacher.path=nowhere.jsonl", "--dry-run"),
            "no such file of recorded answers",
        ),
        (("run", "demo", "--set", "formats=[sfft]", "--dry-run"), "did you mean 'sft'"),
        (("run", "demo", "--set", "teacher=vlm:x", "--dry-run"), "did you mean 'vllm'"),
    ],
)
def test_mistakes_are_told_with_a_fix_and_no_traceback(fucina: Any, arguments: tuple[str, ...], message: str) -> None:
    status, _, err = fucina(*arguments)
    assert status == 1
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err


def test_dry_run_writes_nothing(fucina: Any, tmp_path: Path) -> None:
    status, out, _ = fucina("run", "demo", "--out", str(tmp_path / "out"), "--dry-run", "--json")
    planned = json.loads(out)
    assert status == 0
    assert next(item["stage"] for item in planned) == "collect"
    assert not any(item["done"] for item in planned)
    assert not (tmp_path / "out").exists()


def test_doctor(fucina: Any) -> None:
    status, out, _ = fucina("doctor", "--json")
    findings = json.loads(out)
    assert status == 0
    assert {"machine", "engine"} <= {finding["area"] for finding in findings}
    assert all(finding["ok"] or finding["fix"] for finding in findings)
