"""Writes man/ and share/completion/ from what the commands themselves say: `make man`.

The usage text of a command is its parser, its --help, its manual page and its completion, so they cannot disagree;
a test holds what is committed against what this would write. Sections 5 and 7 are in share/manual/*.txt.
"""

from __future__ import annotations

import importlib
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT + "/lib")

from tmux_orchestrator import __version__  # noqa: E402
from tmux_orchestrator.ground import options  # noqa: E402


def commands() -> list[str]:
    """Every command of bin/ that has a usage text."""
    return sorted(name for name in os.listdir(ROOT + "/bin") if name.startswith("orc-"))


def module(name: str) -> tuple[str, str]:
    """(purpose, usage text) of a command."""
    found = importlib.import_module("tmux_orchestrator.commands." + name.removeprefix("orc-").replace("-", "_"))
    purpose = (found.__doc__ or "").split("\n")[0].split(": ", 1)[1].rstrip(".")
    return purpose, found.USAGE


def escape(text: str) -> str:
    """As roff wants it."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return "\\&" + text if text[:1] in (".", "'") else text


def page(name: str) -> str:
    """The manual page of one command."""
    purpose, usage = module(name)
    head, _, rest = usage.partition("\n\n")
    body, _, examples = rest.partition("\nexamples:\n")
    out = [f'.TH {name.upper()} 1 "" "tmux-orchestrator {__version__}"', ".SH NAME", f"{name} \\- {escape(purpose)}"]
    out += [".SH SYNOPSIS", ".nf", *[escape(line.removeprefix("usage:").strip()) for line in head.split("\n")], ".fi"]
    out += [".SH DESCRIPTION"]
    listing = False
    for line in body.split("\n"):
        if line.startswith("  -"):
            spec, _, text = line.strip().partition("  ")
            out += [] if listing else [".SH OPTIONS"]
            listing = True
            out += [".TP", f"\\fB{escape(spec)}\\fR", escape(text.strip())]
        else:
            out.append(escape(line.strip()) if line.strip() else ".PP")
    out += [".SH EXIT STATUS", "As in", "\\fBorc\\fR(7)."]
    out += [".SH EXAMPLES", ".nf", *[escape(line.strip()) for line in examples.rstrip().split("\n")], ".fi"]
    out += [".SH SEE ALSO", "\\fBorc\\fR(7), \\fBorc\\-event\\fR(5), \\fBorc\\-config\\fR(5)"]
    return "\n".join(out) + "\n"


def text_page(path: str) -> str:
    """A page of section 5 or 7 from plain text: `# HEADING` lines, indented lines as they are, the rest filled."""
    name, section = os.path.basename(path).removesuffix(".txt").rsplit(".", 1)
    out = [f'.TH {name.upper()} {section} "" "tmux-orchestrator {__version__}"']
    verbatim = False
    with open(path, encoding="utf-8") as file:
        for line in file.read().split("\n"):
            if verbatim and line and not line.startswith("  "):
                out.append(".fi")
                verbatim = False
            if line.startswith("# "):
                out.append(f".SH {escape(line[2:])}")
            elif line.startswith("  "):
                out += [] if verbatim else [".nf"]
                verbatim = True
                out.append(escape(line))
            elif line:
                out.append(escape(line))
            else:
                out.append(".PP" if not verbatim else "")
    return "\n".join(out + ([".fi"] if verbatim else [])) + "\n"


def words(name: str) -> list[str]:
    """The long options of a command, for a shell to complete."""
    known = options.declared(module(name)[1])
    return sorted([option for option in known if option.startswith("--")] + ["--help", "--version"])


def bash() -> str:
    out = ["# bash completion of the orc- commands; made by `make man`", "_orc() {", "  local words"]
    out += ["  case ${COMP_WORDS[0]##*/} in"]
    out += [f"    {name}) words='{' '.join(words(name))}' ;;" for name in commands()]
    out += ["  esac", '  case ${COMP_WORDS[COMP_CWORD - 1]} in']
    out += ["    -t | --to) words=$(orc-agent list -o name 2>/dev/null) ;;", "  esac"]
    out += ["  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\")", "}"]
    return "\n".join([*out, f"complete -o default -F _orc {' '.join(commands())}"]) + "\n"


def zsh() -> str:
    out = [f"#compdef {' '.join(commands())}", "# made by `make man`", "local -a opts", "case $service in"]
    out += [f"  {name}) opts=({' '.join(words(name))}) ;;" for name in commands()]
    out += ["esac", "case ${words[CURRENT-1]} in"]
    out += ["  -t|--to) compadd -- $(orc-agent list -o name 2>/dev/null) ;;", "  *) compadd -- $opts; _files ;;"]
    return "\n".join([*out, "esac"]) + "\n"


def fish() -> str:
    out = ["# fish completion of the orc- commands; made by `make man`"]
    for name in commands():
        out += [f"complete -c {name} -l {word[2:]}" for word in words(name)]
    return "\n".join(out) + "\n"


def files() -> dict[str, str]:
    """Path below the checkout -> what belongs there."""
    made = {f"man/{name}.1": page(name) for name in commands()}
    folder = ROOT + "/share/manual"
    made |= {
        f"man/{name.removesuffix('.txt')}": text_page(f"{folder}/{name}")
        for name in sorted(os.listdir(folder))
        if name.endswith(".txt")
    }
    return made | {
        "share/completion/orc.bash": bash(),
        "share/completion/_orc": zsh(),
        "share/completion/orc.fish": fish(),
    }


def main() -> None:
    for path, text in files().items():
        full = f"{ROOT}/{path}"
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
