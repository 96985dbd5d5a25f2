"""Reads the YAML file strictly and compiles it for `config`; the only importer of yaml.

Nodes are walked beside the schema instead of being constructed, so every mistake knows its line, and nothing of
YAML's own surprises (tags that make objects, aliases that expand, `no` as a boolean, 1:30 as 90, 010 as 8) gets
through. All mistakes of a file are found, the first one is raised. A file that changes while it is read, or did
so a moment ago, is read but not kept as compiled: its next change might not show in its times.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tmux_orchestrator.ground import (
    config_file,
    config_kinds,
    config_rules,
    config_schema,
    config_team,
    fastjson,
    files,
)
from tmux_orchestrator.ground.config_file import LARGEST
from tmux_orchestrator.ground.config_kinds import LISTS, Key
from tmux_orchestrator.ground.config_schema import SECTIONS
from tmux_orchestrator.ground.errors import ConfigError, OrcError

if TYPE_CHECKING:
    from tmux_orchestrator.ground.paths import Home

DEEPEST = 16
MOST = 50  # mistakes that are looked for
_SETTLED_NS = 50_000_000  # file times move in clock ticks of up to 10 ms


class Mistake(ConfigError):
    """One thing that is wrong, with its line (from 1)."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text if len(text) <= 400 else text[:400] + "…")
        self.line = line


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


class _Loader(yaml.SafeLoader):
    """Composes nodes; refuses tags, aliases and depth."""

    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise Mistake(line, f"*{event.anchor} is an alias: write the value out")
        if event.tag not in (None, "!"):
            raise Mistake(line, f"{event.tag!r} is a tag: leave it out")
        if self.depth >= DEEPEST:
            raise Mistake(line, f"nested more than {DEEPEST} deep: flatten it")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _compose(text: str) -> Node | None:
    """The node tree of the only document. Raises Mistake."""
    try:
        return _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Mistake(line, f"holds the character U+{int(error.character):04X}: remove it") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(str(error.problem or error.context).split())
        if what.startswith("but "):
            what = f"{error.context}, {what}"
        mend = "see the lines around it"
        if what.endswith("cannot start any token"):
            mend = "indent with spaces" if "\\t" in what else "put the text in quotes"
        raise Mistake(mark.line + 1 if mark else 1, f"is no YAML: {what}: {mend}") from None


def _declared() -> dict[str, Any]:
    """The schema as the tree that a file has."""
    tree: dict[str, Any] = {section.name: {} for section in SECTIONS}
    for path, key in config_schema.all_keys().items():
        *above, leaf = path.split(".")
        place = tree
        for part in above:
            place = place.setdefault(part, {})
        place[leaf] = key
    return tree


class _Enough(Exception):
    """So many mistakes that looking for more helps nobody."""


class _Walk:
    """One pass over one file: collects mistakes, returns what is right."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []
        self.rest = {section.name: section.rest for section in SECTIONS}

    def wrong(self, node: Node, text: str) -> None:
        self.mistakes.append(Mistake(_line(node), text))
        if len(self.mistakes) >= MOST:
            raise _Enough

    def pairs(self, node: Node, path: str) -> list[tuple[str, ScalarNode, Node]]:
        """Key and value of each entry; duplicates and odd keys are mistakes. Nothing at all is an empty mapping."""
        if isinstance(node, ScalarNode) and _type(node) == "null":
            return []
        if not isinstance(node, MappingNode):
            self.wrong(node, f"{path or 'the file'} must be a mapping of keys to values")
            return []
        found: list[tuple[str, ScalarNode, Node]] = []
        seen: dict[str, int] = {}
        for name, value in node.value:
            if not isinstance(name, ScalarNode):
                self.wrong(name, f"a key of {path or 'the file'} is not a plain word: write one")
            elif name.value in seen:
                self.wrong(name, f"{_join(path, name.value)!r} is there twice, first on line {seen[name.value]}")
            else:
                seen[name.value] = _line(name)
                found.append((name.value, name, value))
        return found

    def file(self, root: Node) -> dict[str, Any]:
        values: dict[str, Any] = {}
        declared = _declared()
        for name, node, value in self.pairs(root, ""):
            if name not in declared:
                self.unknown(node, "", name, list(declared))
            elif self.rest[name] == "rules":
                values[name] = self.rules(value, name)
            else:
                values[name] = self.mapping(value, declared[name], name, self.rest[name])
        return values

    def mapping(self, node: Node, declared: dict[str, Any], path: str, rest: str = "") -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, key_node, value in self.pairs(node, path):
            known, full = declared.get(name), _join(path, name)
            if isinstance(known, Key):
                values[name] = self.value(known, value, full)
            elif isinstance(known, dict):
                values[name] = self.mapping(value, known, full, "" if full in config_team.STRICT else rest)
            elif full in config_team.ENTRIES:
                values[name] = self.entries(value, config_team.ENTRIES[full], full)
            elif full in config_rules.SHAPES:
                values[name] = self.rules(value, full)
            elif rest in _NAMED:
                self.named(key_node, full, _NAMED[rest])
                values[name] = self.value(Key(name, rest, [], ""), value, full)
            elif rest == "table":
                values[name] = {n: self.tree(v, f"{full}.{n}") for n, _, v in self.pairs(value, full)}
            elif rest == "tree":
                values[name] = self.tree(value, full)
            else:
                self.unknown(key_node, path, name, list(declared))
        return values

    def entries(self, node: Node, declared: dict[str, Any], path: str) -> dict[str, Any]:
        """Parts of one shape, by name; what else such a part holds is its own."""
        found: dict[str, Any] = {}
        for name, key_node, value in self.pairs(node, path):
            self.named(key_node, f"{path}.{name}", "an agent")
            found[name] = self.mapping(value, declared, f"{path}.{name}", "tree")
        return found

    def named(self, node: Node, path: str, what: str) -> None:
        if not config_kinds.NAME.fullmatch(path.rpartition(".")[2]):
            self.wrong(node, f"{path!r} is no name for {what}: a-z, 0-9, _ and -, at most 32")

    def unknown(self, node: Node, path: str, name: str, siblings: list[str]) -> None:
        full = _join(path, name)
        self.wrong(node, f"unknown key {full!r}{config_schema.nearest(full, siblings)}: see docs/configuration.md")

    def value(self, key: Key, node: Node, path: str) -> Any:
        """A converted value, or None beside a mistake."""
        if key.kind == "command" and isinstance(node, SequenceNode):
            key = Key(key.name, "words", [], "")
        if key.kind not in LISTS:
            return self.scalar(key, node, path)
        if isinstance(node, SequenceNode):
            items = [self.scalar(key, part, path) for part in node.value]
        elif key.kind in ("texts_or_one", "choices"):
            items = [self.scalar(key, node, path)]
        else:
            return self.wrong(node, f"{path} {config_kinds.needs(key)}")
        if None in items:
            return None
        try:
            return config_kinds.whole(key, items)
        except ValueError as error:
            return self.wrong(node, f"{path} {error}")

    def scalar(self, key: Key, node: Node, path: str) -> Any:
        """One converted text, or None beside a mistake."""
        if not isinstance(node, ScalarNode):
            return self.wrong(node, f"{path} {config_kinds.needs(key)}")
        kind, takes = _type(node), _TAKES.get(key.kind, "str")
        if kind == "null":
            return self.wrong(node, f"{path} has no value: it {config_kinds.needs(key)}")
        shown = f"{path} is {node.value[:60]!r}"
        if kind in takes:
            try:
                return config_kinds.item(key, node.value)
            except ValueError as error:
                return self.wrong(node, f"{shown}: it {error}")
        if takes == "str":
            return self.wrong(node, f"{shown}, which YAML takes for a {kind}: put it in quotes")
        bare = ", without quotes" if node.style else ""
        return self.wrong(node, f"{shown}: it {config_kinds.needs(key)}{bare}")

    def tree(self, node: Node, path: str) -> Any:
        """Whatever JSON can say, of a part that is somebody else's to check."""
        if isinstance(node, MappingNode):
            return {name: self.tree(value, _join(path, name)) for name, _, value in self.pairs(node, path)}
        if isinstance(node, SequenceNode):
            return [self.tree(part, path) for part in node.value]
        return _plain(node)

    def rules(self, node: Node, path: str) -> list[dict[str, Any]]:
        if isinstance(node, ScalarNode) and _type(node) == "null":
            return []
        if not isinstance(node, SequenceNode):
            self.wrong(node, f"{path} must be a list of rules: begin each with -")
            return []
        return [self.rule(part, path, number) for number, part in enumerate(node.value)]

    def rule(self, node: Node, path: str, number: int) -> dict[str, Any]:
        before = len(self.mistakes)
        rule = self.mapping(node, config_rules.SHAPES[path], f"{path}[{number}]")
        lack = "" if len(self.mistakes) > before else config_rules.lack(path, rule)
        if lack:
            self.wrong(node, f"{path}[{number}] {lack}")
        return rule


_NAMED = {"targets": "a group", "rate": "a limit", "recipients": "an account"}  # kinds of what stands below names
_TAKES = {"bool": "boolean", "int": "number", "share": "number", "duration": "number str", "durations": "number str"}
_TYPES = {"bool": "boolean", "int": "number", "float": "number", "timestamp": "date", "null": "null"}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _type(node: Node) -> str:
    """What YAML takes a scalar for: "str", "null", "boolean", "number" or "date"."""
    return _TYPES.get(node.tag.rpartition(":")[2], "str")


def _plain(node: Node) -> Any:
    """A scalar of an unchecked part, numbers in plain decimal only."""
    text, kind = node.value, _type(node)
    if kind == "null":
        return None
    if kind == "boolean":
        return text.lower() in ("true", "yes", "on")
    if kind == "number" and config_kinds.is_decimal(text):
        return float(text) if "." in text else int(text)
    return text


def parse(data: bytes) -> tuple[dict[str, Any], list[Mistake]]:
    """The values of a file over the defaults, and its mistakes in the order of their lines."""
    walk = _Walk()
    try:
        if len(data) > LARGEST:
            raise Mistake(1, f"larger than {LARGEST // 1024} KiB: shorten it")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Mistake(data.count(b"\n", 0, error.start) + 1, "is not UTF-8: save it as UTF-8") from None
        root = _compose(text) if data.strip() else None
        given = {}
        try:
            given = walk.file(root) if root else {}
        except _Enough:
            pass
    except Mistake as mistake:
        return {}, [mistake]
    return _merged(config_schema.defaults(), given), sorted(walk.mistakes, key=lambda mistake: mistake.line)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    for name, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(name), dict):
            _merged(below[name], value)
        else:
            below[name] = value
    return below


def check(data: bytes, name: str) -> list[str]:
    """Every mistake of a file as `NAME:LINE: text`."""
    return [f"{name}:{mistake.line}: {mistake}" for mistake in parse(data)[1]]


def _checked(data: bytes, name: str) -> dict[str, Any]:
    values, mistakes = parse(data)
    if mistakes:
        more = f" ({len(mistakes) - 1} more: orc-config check)" if len(mistakes) > 1 else ""
        raise ConfigError(f"{name}:{mistakes[0].line}: {mistakes[0]}{more}")
    return values


def compile_home(
    home: Home, copy: str, stamp_of: Callable[[str, os.stat_result | None], list[object]]
) -> dict[str, Any]:
    """Compile the home's configuration, and keep the result in `copy` for the next reader. Raises ConfigError.

    `stamp_of` says what the copy stands for: the file as it was when it was read.
    """
    data, found = config_file.read(home.config_file)
    values = _checked(data or b"", os.path.basename(home.config_file))
    text = fastjson.dumps(values)
    compiled = {
        "stamp": stamp_of(home.config_file, found),
        "digest": hashlib.sha256(text.encode()).hexdigest(),
        "variables": config_schema.variables(),
        "values": values,
    }
    settled = found is None or not 0 <= time.time_ns() - found.st_ctime_ns < _SETTLED_NS
    if settled and os.path.isdir(home.logs):  # a mistyped ORC_HOME is not made by asking for its configuration
        try:
            files.replace(copy, fastjson.dumps(compiled).encode(), sync=False)
        except (OrcError, OSError):
            pass  # a home that cannot be written to can still be read
    return compiled
