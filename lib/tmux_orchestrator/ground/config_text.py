"""The configuration as text: the commented file with all defaults, and the values in force.

Both are YAML. The first is what `orc-config init` writes and what lies in the checkout; it reads back as the
defaults, which a test holds it to.
"""

from __future__ import annotations

import re
from typing import Any

from tmux_orchestrator.ground import fastjson
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.config_rules import FLOWS
from tmux_orchestrator.ground.config_schema import SECTIONS, Section
from tmux_orchestrator.ground.output import clean, tidy

HEAD = """\
# The configuration. Each key stands here with its default, which also holds for a key that is left out.
# Unknown keys, duplicates and impossible values are refused: orc-config check names their lines.
# A time is in seconds, or like 30s, 15m, 1h30m, 7d. Targets that begin with @ need quotes.
# ORC_<SECTION>_<KEY> in the environment overrides a key. Running components take changes up by themselves.
"""
# Texts that YAML takes for nothing but text, or for the number or duration that they are.
_PLAIN = re.compile(
    r"(?!(?:y|n|yes|no|on|off|true|false|null)$)[a-z/][\w./-]*|\d+[smhdw]|\d+ in \w+|\d+(\.\d+){3}", re.I
)


def written(value: Any) -> str:
    """One value on one line of YAML."""
    if isinstance(value, str):
        if _PLAIN.fullmatch(value):
            return value
        return '"' + clean(value.replace("\\", "\\\\").replace('"', '\\"')) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(name)}: {written(part)}" for name, part in value.items()) + "}"
    return fastjson.dumps(tidy(value))


def _keys(section: Section) -> list[str]:
    """The lines of a section's keys, comments aligned; a dotted name is a mapping within."""
    lines: list[tuple[str, str]] = []
    above = ""
    for key in section.keys:
        outer, _, name = key.name.rpartition(".")
        if outer != above:
            lines.append((f"  {outer}:", ""))
            above = outer
        lines.append((f"{'    ' if outer else '  '}{name}: {written(key.default)}", key.about))
    column = max(len(line) for line, _ in lines) + 2
    return [f"{line.ljust(column)}# {about}" if about else line for line, about in lines]


def default_file() -> str:
    """The commented file with all defaults."""
    parts = [HEAD]
    for section in SECTIONS:
        lines = [f"# {section.about}"]
        empty = "[]" if section.rest == "rules" else "{}"
        if section.keys:
            lines += [f"{section.name}:", *_keys(section)]
        else:
            lines.append(f"{section.name}: {empty}")
        if section.rest == "flows":
            lines += ["  rules:", *(f"    - {written(rule)}" for rule in FLOWS)]
        if section.example:
            lines += [
                f"  # For example{'' if section.keys else ', instead of ' + empty}:",
                *(f"  #   {line}" for line in section.example),
            ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _mapping(values: dict[str, Any], path: str, config: Config) -> list[str]:
    lines: list[str] = []
    indent = "  " * path.count(".")
    for name, value in values.items():
        full = path + name
        mark = f"  # from {config.from_env[full]}" if full in config.from_env else ""
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}:", *_mapping(value, full + ".", config)]
        elif full == "recovery.breaker":
            lines.append(f"{indent}{name}: {value[0]} in {tidy(value[1])}{mark}")
        else:
            lines.append(f"{indent}{name}: {written(value)}{mark}")
    return lines


def in_force(config: Config) -> str:
    """All values in force; what the environment overrides says so."""
    return "\n".join(_mapping(config.values, "", config)) + "\n"
