"""`make bench`: speed, beside its floors and peers of the same run. run.py [WORD...] runs the modules that have a word.

A module `tests/bench/*_*.py` that has `rows() -> list[Row]` is found by itself. Nothing here fails because of a time.
"""

from __future__ import annotations

import importlib
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from proof.run import clean_environment, machine  # noqa: E402


def main(words: list[str]) -> int:
    clean_environment()
    names = sorted(name[:-3] for name in os.listdir(HERE) if name.endswith(".py") and "_" in name)
    print(f"{machine()}, load {os.getloadavg()[0]:.1f}")
    for name in [name for name in names if not words or any(word in name for word in words)]:
        module = importlib.import_module("bench." + name)
        if not hasattr(module, "rows"):
            continue
        print(f"\n{(module.__doc__ or name).strip().splitlines()[0]}", flush=True)
        for row in module.rows():
            told = f"target {row.target}" + (f", {row.missed}" if row.missed else ", held") if row.target else ""
            print(f"  {row.work}\n      {row.measured}\n      {row.beside}  {told}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
