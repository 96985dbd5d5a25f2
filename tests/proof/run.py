"""`make proof`: every promise, with counts. run.py [--quick] [--seed N] [WORD...] runs the modules that have a word.

A module `tests/proof/*_*.py` that has `check(quick) -> list[Row]` is found by itself.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import subprocess
import sys
import time
from types import ModuleType

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
ROOT = os.path.dirname(TESTS)


def clean_environment() -> None:
    """Nothing of the caller's system, and the commands of this tree."""
    for name in [name for name in os.environ if name.startswith(("ORC_", "ORCHESTRATOR_", "TMUX"))]:
        del os.environ[name]
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PATH"] = f"{ROOT}/bin{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    sys.path[:0] = [ROOT + "/lib", TESTS]


def modules(words: list[str]) -> list[ModuleType]:
    names = sorted(name[:-3] for name in os.listdir(HERE) if name.endswith(".py") and "_" in name)
    found = [importlib.import_module("proof." + name) for name in names if not words or any(w in name for w in words)]
    return [module for module in found if hasattr(module, "check")]


def prove(module: ModuleType, quick: bool) -> tuple[int, int]:
    """Print its rows; how many held, of how many."""
    print(f"\n{module.__name__.removeprefix('proof.')}: {(module.__doc__ or '').strip().splitlines()[0]}", flush=True)
    start = time.monotonic()
    found = module.check(quick)
    for what, count, said in found:
        print(f"  {count:>7,}  {what}: {said}", flush=True)
    print(f"           {time.monotonic() - start:.0f} s", flush=True)
    return sum(said.startswith("ok") for _, _, said in found), len(found)


def machine() -> str:
    tmux = subprocess.run(["tmux", "-V"], capture_output=True, text=True, check=False).stdout.strip() or "no tmux"
    who = "root" if os.geteuid() == 0 else "a user"
    system = f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{system}, Python {platform.python_version()}, {tmux}, as {who}"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--seed", type=int, default=20261120)
    options.add_argument("words", nargs="*")
    given = options.parse_args()
    os.environ["PROOF_SEED"] = str(given.seed)
    clean_environment()
    results = [prove(module, given.quick) for module in modules(given.words)]
    held, of = sum(one for one, _ in results), sum(all_ for _, all_ in results)
    print(f"\n{held} of {of} held; seed {given.seed}; {machine()}")
    return 0 if held == of > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
