"""Writes man/ and share/completion/ from what the commands themselves say: `make man`.

The usage text of a command is its parser, its --help, its manual page and its completion, so they cannot disagree;
a test holds what is committed against what this would write. Sections 5 and 7 are in share/manual/*.txt: `# ` begins
a heading, indented lines stay as they are. Nothing here depends on the day or the machine.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT + "/lib")

from tmux_orchestrator import __version__  # noqa: E402
from tmux_orchestrator.ground import options  # noqa: E402

# The front ends in sh: below the checkout.
SCRIPTS = {"tmux-orc": "bin/tmux-orc", "orchestrator_manager.sh": "orchestrator_manager.sh"}
AGENTS = "$(orc-agent list -o name 2>/dev/null)"
COMMON = ["  --help  what is said here, in short", "  --version  which version this is"]
# What an option's value is chosen from, for a shell to complete: by the option's attribute.
VALUES = {
    "to": AGENTS,
    "agent": AGENTS,
    "unread": AGENTS,
    "priority": "critical high normal low",
    "profile": " ".join(sorted(name[:-5] for name in os.listdir(ROOT + "/share/profiles") if name.endswith(".toml"))),
    "restart": "never crash always",
    "supervisor": "monitor team none",
    "format": "json text",
    "file": "",  # a file's name
    "cursor_file": "",
}


def commands() -> list[str]:
    """The commands whose usage text is their parser."""
    return sorted(name for name in os.listdir(ROOT + "/bin") if name.startswith("orc-"))


def described(name: str) -> tuple[str, str]:
    """(purpose, usage text) of a command or a front end."""
    if name in SCRIPTS:
        path = f"{ROOT}/{SCRIPTS[name]}"
        with open(path, encoding="utf-8") as file:
            first = file.read().split("\n")[1]
        usage = subprocess.run([path, "--help"], capture_output=True, text=True, check=True).stdout
    else:
        found = importlib.import_module("tmux_orchestrator.commands." + name.removeprefix("orc-").replace("-", "_"))
        first, usage = (found.__doc__ or "").split("\n")[0], found.USAGE
    return first.split(": ", 1)[1].rstrip("."), usage


# manual pages


def escape(text: str) -> str:
    """As roff wants it, and so that what is copied from a page is what was written."""
    for plain, roff in (("\\", "\\e"), ("-", "\\-"), ("'", "\\(aq"), ("`", "\\(ga"), ("^", "\\(ha"), ("~", "\\(ti")):
        text = text.replace(plain, roff)
    text = text.replace("…", "...")
    text = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)
    return "\\&" + text if text.startswith(".") else text


def verbatim(lines: list[str]) -> list[str]:
    return [".nf", *[escape(line) for line in lines], ".fi"]


def filled(lines: list[str]) -> list[str]:
    """Paragraphs, with indented lines kept as they are."""
    out: list[str] = []
    kept: list[str] = []
    for line in [*lines, ""]:
        if kept and line and not line.startswith("  "):
            out += verbatim(kept)
            kept = []
        if line.startswith("  ") or (kept and line):
            kept.append(line)
        elif line:
            out.append(escape(line))
        else:
            out += [*(verbatim(kept) if kept else []), ".PP"]
            kept = []
    while out[-1:] == [".PP"]:
        out.pop()
    return out


def title(name: str, section: str) -> list[str]:
    return [f'.TH {escape(name.upper())} {section} "" "tmux-orchestrator {__version__}"', ".ad l", ".nh"]


def option_list(lines: list[str]) -> list[str]:
    """`  -x, --long VALUE   text`, and what a following line adds to the text."""
    out: list[str] = []
    for line in lines:
        if line.startswith("  -"):
            spec, _, text = line.strip().partition("  ")
            out += [".TP", f"\\fB{escape(spec)}\\fR"]
        else:
            text = line
        out.append(escape(text.strip()))
    return out


def page(name: str) -> str:
    """The manual page of one command."""
    purpose, usage = described(name)
    head, _, rest = usage.partition("\n\n")
    rest, _, examples = rest.partition("\nexamples:\n")
    body = rest.rstrip("\n").split("\n")
    first = next((n for n, line in enumerate(body) if line.startswith("  -")), len(body))
    out = [*title(name, "1"), ".SH NAME", f"{escape(name)} \\- {escape(purpose)}"]
    out += [".SH SYNOPSIS", *verbatim([line.removeprefix("usage:").strip() for line in head.split("\n")])]
    out += [".SH DESCRIPTION", *filled(body[:first])]
    out += [".SH OPTIONS", *option_list([*body[first:], *COMMON])]
    out += [".SH EXIT STATUS", "As in", "\\fBorc\\fR(7)."]
    out += [".SH EXAMPLES", *verbatim([line.strip() for line in examples.rstrip("\n").split("\n")])]
    out += [".SH SEE ALSO", "\\fBorc\\fR(7), \\fBorc\\-event\\fR(5), \\fBorc\\-config\\fR(5)"]
    return "\n".join(out) + "\n"


def text_page(path: str) -> str:
    """A page of section 5 or 7 from plain text."""
    name, section = os.path.basename(path).removesuffix(".txt").rsplit(".", 1)
    out = title(name, section)
    with open(path, encoding="utf-8") as file:
        parts = re.split(r"^# ", file.read(), flags=re.MULTILINE)
    for part in parts[1:]:
        heading, *lines = part.rstrip("\n").split("\n")
        out += [f".SH {escape(heading)}", *filled(lines)]
    return "\n".join(out) + "\n"


# completion


def spellings(name: str) -> dict[str, list[str]]:
    """An option's attribute -> how it is spelled."""
    found: dict[str, list[str]] = {}
    for option, (attribute, _) in options.declared(described(name)[1]).items():
        found.setdefault(attribute, []).append(option)
    return found


def words(name: str) -> list[str]:
    """The long options of a command."""
    longs = [option for found in spellings(name).values() for option in found if option.startswith("--")]
    return sorted([*longs, "--help", "--version"])


def verbs(name: str) -> list[str]:
    """What the first word of a command may be, where its synopsis says so."""
    if name == "tmux-orc":
        line = next(line for line in described(name)[1].split("\n") if line.startswith("words: "))
        return sorted(line.split()[1:])
    synopsis = described(name)[1].partition("\n\n")[0]
    found = re.findall(rf"{re.escape(name)} ([a-z][a-z|-]*(?: \| [a-z]+)*)(?=[ \n]|$)", synopsis)
    return sorted({verb for group in found for verb in re.split(r" ?\| ?", group)})


def value_cases() -> dict[str, str]:
    """`-t | --to` -> what its value is chosen from."""
    found: dict[str, set[str]] = {}
    for name in commands():
        for attribute, spelled in spellings(name).items():
            if attribute in VALUES:
                found.setdefault(VALUES[attribute], set()).update(spelled)
    return {" | ".join(sorted(spelled)): values for values, spelled in sorted(found.items())}


def bash() -> str:
    out = ["# bash completion of these commands; made by `make man`", "_orc() {"]
    out += ["  local command=${COMP_WORDS[0]##*/} first=1 verbs='' options='' choice=''"]
    out += [
        '  if [ "$command" = tmux-orc ] && [ "$COMP_CWORD" -gt 1 ]; then',
        "    command=orc-${COMP_WORDS[1]} first=2",
    ]
    out += ["  fi", "  case $command in"]
    for name in [*commands(), *SCRIPTS]:
        verb = f"verbs='{' '.join(verbs(name))}' " if verbs(name) else ""
        out += [f"    {name}) {verb}options='{' '.join(words(name))}' ;;"]
    out += ["  esac", "  case ${COMP_WORDS[COMP_CWORD - 1]} in"]
    out += [f'    {spelled}) choice="{values}" ;;' for spelled, values in value_cases().items()]
    out += ["    *)", '      [ "$COMP_CWORD" -ne "$first" ] || choice=$verbs']
    out += [f'      [ "$command" != orc-agent ] || [ "$COMP_CWORD" -le "$first" ] || choice="{AGENTS}"']
    out += ['      choice="$choice $options"', "      ;;", "  esac"]
    out += ['  mapfile -t COMPREPLY < <(compgen -W "$choice" -- "${COMP_WORDS[COMP_CWORD]}")', "}"]
    return "\n".join([*out, f"complete -o default -F _orc {' '.join([*commands(), *SCRIPTS])}"]) + "\n"


def zsh() -> str:
    out = [f"#compdef {' '.join([*commands(), *SCRIPTS])}", "# made by `make man`", "local -a verbs options"]
    out += ["if [[ $service == tmux-orc ]] && ((CURRENT > 2)); then"]
    out += ["  service=orc-${words[2]}", "  shift words", "  ((CURRENT--))", "fi", "case $service in"]
    for name in [*commands(), *SCRIPTS]:
        verb = f"verbs=({' '.join(verbs(name))}) " if verbs(name) else ""
        out += [f"  {name}) {verb}options=({' '.join(words(name))}) ;;"]
    out += ["esac", "case ${words[CURRENT-1]} in"]
    for spelled, values in value_cases().items():
        out += [f"  {spelled}) {'compadd -- ' + values if values else '_files'} ;;"]
    out += ["  *)", "    ((CURRENT == 2)) && compadd -- $verbs"]
    out += [f"    [[ $service == orc-agent ]] && ((CURRENT > 2)) && compadd -- {AGENTS}"]
    return "\n".join([*out, "    compadd -- $options", "    _files", "    ;;", "esac"]) + "\n"


def fish() -> str:
    out = ["# fish completion of these commands; made by `make man`"]
    for name in [*commands(), *SCRIPTS]:
        if verbs(name):
            out += [f"complete -c {name} -n __fish_use_subcommand -xa '{' '.join(verbs(name))}'"]
        kinds = dict(options.declared(described(name)[1]).values())
        for attribute, spelled in sorted(spellings(name).items()):
            flags = "".join(f" -l {s[2:]}" if s.startswith("--") else f" -s {s[1:]}" for s in spelled)
            values = VALUES.get(attribute, "").removeprefix("$").replace(" 2>/dev/null", "")
            flags += (
                f" -xa '{values}'" if values else " -r" if kinds[attribute] in (options.VALUE, options.LIST) else ""
            )
            out += [f"complete -c {name}{flags}"]
        out += [f"complete -c {name} -l help", f"complete -c {name} -l version"]
    return "\n".join(out) + "\n"


# all of it


def files() -> dict[str, str]:
    """Path below the checkout -> what belongs there."""
    made = {f"man/{name}.1": page(name) for name in [*commands(), *SCRIPTS]}
    folder = ROOT + "/share/manual"
    for name in sorted(os.listdir(folder)):
        if name.endswith(".txt"):
            made[f"man/{name.removesuffix('.txt')}"] = text_page(f"{folder}/{name}")
    made |= {"share/completion/orc.bash": bash(), "share/completion/_orc": zsh(), "share/completion/orc.fish": fish()}
    return made


def faults(path: str) -> str:
    """What a formatter has against a page; nothing where none is installed."""
    if shutil.which("mandoc"):
        argv = ["mandoc", "-Tlint", "-Werror", path]
    elif shutil.which("man") and shutil.which("groff"):
        argv = ["man", "--warnings", "-l", path]
    else:
        return ""
    env = os.environ | {"LC_ALL": "C.UTF-8", "MANWIDTH": "100"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if argv[0] == "mandoc" or done.returncode else done.stderr


def main() -> None:
    made = files()
    for folder in (ROOT + "/man", ROOT + "/share/completion"):
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(folder):
            if f"{folder}/{name}".removeprefix(ROOT + "/") not in made:
                os.unlink(f"{folder}/{name}")
    for path, text in made.items():
        with open(f"{ROOT}/{path}", "w", encoding="utf-8") as file:
            file.write(text)
    found = "".join(faults(f"{ROOT}/{path}") for path in made if path.startswith("man/"))
    if found:
        sys.exit(found.rstrip("\n"))


if __name__ == "__main__":
    main()
