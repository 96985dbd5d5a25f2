"""All modules of a hot command in one file, `lib/__pycache__/COMMAND-VERSION.bundle`: made by set-up, used by the stub.

Finding twenty modules one by one costs a command a quarter of a bare Python's start (docs/decisions/bundle.md).

A bundle holds `load`, the sources that it stands for, and their code. Before `load` runs any of it, it compares each
source's time of change and size with what they were. If one differs or is gone, it does nothing, and the usual import
finds what is there. So a bundle may be old, or be deleted, at any time: after a pull without set-up, in a copy of the
tree, and under another Python (whose bundles have another name) commands start slower, not wrong. It is replaced as a
whole: a crash leaves the old one or the new one.
"""

from __future__ import annotations
import __future__

import ast
import marshal
import os
import sys
from collections.abc import Iterable
from functools import cache
from types import CodeType

Source = tuple[str, int, int]  # path below lib, time of change, size
Module = tuple[str, str, CodeType]  # full name, path below lib

_PACKAGE = "tmux_orchestrator"


def load(lib: str, sources: list[Source], modules: list[Module]) -> bool:
    """Put the modules into `sys.modules`; False, and none is there, unless all sources are as they were.

    It runs in the stub, where nothing of this module is known, and imports what it uses.
    """
    import posix
    import sys

    try:
        for file, changed, size in sources:
            found = posix.stat(lib + file)
            if found.st_mtime_ns != changed or found.st_size != size:
                return False
    except OSError:
        return False
    made = {name: type(sys)(name) for name, _, _ in modules}
    for name, file, _ in modules:
        made[name].__file__ = lib + file
        if file.endswith("/__init__.py"):
            made[name].__path__ = [lib + file[:-12]]
        above, _, own = name.rpartition(".")
        if above:
            setattr(made[above], own, made[name])
    sys.modules.update(made)
    try:
        for name, _, code in modules:
            exec(code, made[name].__dict__)
    except BaseException:  # noqa: BLE001 # the usual import will say what is wrong
        for name in made:
            del sys.modules[name]
        return False
    return True


def path(lib: str, command: str) -> str:
    """Where the command's stub looks."""
    return f"{lib}/__pycache__/orc-{command}-{sys.hexversion:x}.bundle"


def _file(lib: str, name: str) -> str:
    """The path of a module below `lib`; "" where the name is that of something in a module."""
    file = "/" + name.replace(".", "/")
    for ending in (".py", "/__init__.py"):
        if os.path.exists(lib + file + ending):
            return file + ending
    return ""


def _source(lib: str, file: str) -> Source:
    found = os.stat(lib + file)
    return file, found.st_mtime_ns, found.st_size


@cache  # commands share most of their modules
def _read(lib: str, source: Source) -> tuple[list[str], CodeType]:
    """The names that a module imports from us when it is run, and its code."""
    file = source[0]
    with open(lib + file, encoding="utf-8") as text:
        tree = ast.parse(text.read())
    names = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == _PACKAGE:
            names += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    # `annotations` is compiled in: importing __future__ takes as long as several of our modules.
    tree.body = [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    flags = __future__.annotations.compiler_flag
    return names, compile(tree, file[1:], "exec", flags=flags, dont_inherit=True)


def _add(lib: str, name: str, found: dict[str, tuple[Source, CodeType]]) -> None:
    """Put the module behind its package and all that it imports."""
    file = _file(lib, name)
    if not file or name in found:
        return
    source = _source(lib, file)  # before it is read: whoever changes it meanwhile makes the bundle an old one
    names, code = _read(lib, source)
    for wanted in [name.rpartition(".")[0], *names]:
        _add(lib, wanted, found)
    found[name] = source, code


def make(lib: str, command: str) -> None:
    """Write the command's bundle. Raises OSError."""
    found: dict[str, tuple[Source, CodeType]] = {}
    for name in ("run", "commands." + command):
        _add(lib, f"{_PACKAGE}.{name}", found)
    own = _source(lib, f"/{_PACKAGE}/bundle.py")  # whose `load` it is
    sources = [own, *(source for source, _ in found.values())]
    modules = [(name, source[0], code) for name, (source, code) in found.items()]
    place = path(lib, command)
    temporary = f"{place}.{os.getpid()}"
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(temporary, "wb") as bundle:
        bundle.write(marshal.dumps((load.__code__, sources, modules)))
    os.rename(temporary, place)


def is_fresh(lib: str, command: str) -> bool:
    """Would the stub use the bundle that is there?"""
    try:
        with open(path(lib, command), "rb") as bundle:
            _, sources, _ = marshal.loads(bundle.read())
        return all(_source(lib, source[0]) == source for source in sources)
    except (OSError, ValueError, EOFError, TypeError):
        return False


def refresh(lib: str, commands: Iterable[str]) -> None:
    """Make the bundles that are not what is there. Raises OSError."""
    for command in commands:
        if not is_fresh(lib, command):
            make(lib, command)
