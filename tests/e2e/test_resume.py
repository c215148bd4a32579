"""Killed at any moment, the same command ends with the same data sets, and asks hardly anything twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ChatServer

PROMPTS = 60
CONCURRENCY = 4
RECIPE = """\
name: resume
engines:
  teacher: {{engine: openai, url: "{url}", model: eco, concurrency: {concurrency}}}
stages:
  - collect: {{paths: prompts.jsonl}}
  - repair
  - language
  - deduplicate
  - regenerate: {{engines: [teacher]}}
  - rules
  - select: {{strength: [teacher, original]}}
formats: [sft, dpo, kto, grpo]
"""
NAMES = [
    f"{a}{b}{c}"
    for a in ("Man", "Ber", "Tas", "Ric")
    for b in ("to", "va", "li", "du")
    for c in ("ni", "sso", "rdi", "chi")
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Prompts whose own answer is a refusal, so that every row makes a pair."""
    rows = [
        {"prompt": f"Racconta in breve la giornata della signora {name} al mercato di {name}.", "response": "Mi dispiace, non posso aiutarti."}
        for name in NAMES[:PROMPTS]
    ]  # fmt: skip
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


def command(folder: Path, out: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "fucina.factory.cli.main", "run", "recipe.yaml", "--out", out, "--json", *more]


def run(folder: Path, out: str, *more: str) -> dict[str, Any]:
    done = subprocess.run(command(folder, out, *more), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    manifest: dict[str, Any] = json.loads(done.stdout)
    return manifest


def digests(manifest: dict[str, Any]) -> dict[str, str]:
    return {record["format"]: record["digest"] for record in manifest["datasets"]}


def write_recipe(folder: Path, url: str) -> None:
    (folder / "recipe.yaml").write_text(RECIPE.format(url=url, concurrency=CONCURRENCY), encoding="utf-8")


@pytest.mark.slow
def test_kill_9_at_many_moments(folder: Path) -> None:
    with ChatServer(delay_s=0.15) as server:
        write_recipe(folder, server.url)
        whole = run(folder, "whole")
        assert {record["format"]: record["rows"]["train"] for record in whole["datasets"]} == {
            "sft": PROMPTS, "dpo": PROMPTS, "kto": 2 * PROMPTS, "grpo": PROMPTS,
        }  # fmt: skip
        server.bodies.clear()
        kills = 0
        for moment in (0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.4):
            process = subprocess.Popen(
                command(folder, "killed", "--shard-rows", "16"),
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            try:
                process.communicate(timeout=moment)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.communicate()
                kills += 1
        manifest = run(folder, "killed", "--shard-rows", "16")
        asked = len(server.bodies)
    print(f"{kills} kills, {asked} requests for {PROMPTS} prompts")
    assert kills >= 4
    assert digests(manifest) == digests(whole)
    assert PROMPTS <= asked <= PROMPTS + kills * CONCURRENCY


def test_ctrl_c_says_how_to_go_on(folder: Path) -> None:
    with ChatServer(delay_s=0.5) as server:
        write_recipe(folder, server.url)
        process = subprocess.Popen(
            command(folder, "out"), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while not server.bodies:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on from here" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_shard_size_workers_and_order_change_nothing(folder: Path) -> None:
    with ChatServer() as server:
        write_recipe(folder, server.url)
        whole = run(folder, "whole")
        assert digests(run(folder, "small", "--shard-rows", "7")) == digests(whole)
        assert digests(run(folder, "workers", "--shard-rows", "9", "--workers", "2")) == digests(whole)
        lines = (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / "prompts.jsonl").write_text("".join(lines[::-1]), encoding="utf-8")
        assert digests(run(folder, "mirrored")) == digests(whole)


def test_an_unreachable_server_is_told_and_the_run_goes_on_later(folder: Path) -> None:
    with ChatServer() as server:
        url = server.url
    write_recipe(folder, url)
    recipe = (folder / "recipe.yaml").read_text(encoding="utf-8")
    (folder / "recipe.yaml").write_text(
        recipe.replace("concurrency: 4}", "concurrency: 4, retries: 0}"), encoding="utf-8"
    )
    done = subprocess.run(command(folder, "out"), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "fix: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_run_goes_on_with_more_room(folder: Path) -> None:
    disk = folder / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        with ChatServer() as server:
            write_recipe(folder, server.url)
            done = subprocess.run(command(folder, "disk/out"), cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 1
            assert "the disk is full" in done.stderr
            assert "run the same command again" in done.stderr
            assert "Traceback" not in done.stderr
            subprocess.run([mount, "-o", "remount,size=60m", str(disk)], check=True)
            assert digests(run(folder, "disk/out")) == digests(run(folder, "whole"))
    finally:
        time.sleep(0.1)
        subprocess.run(["umount", str(disk)], check=True)
