"""orc-config: ask for, check, show and begin the configuration."""

from __future__ import annotations

import os
import sys
from typing import Any

from tmux_orchestrator.ground import config, errors, fastjson, options, output, paths

USAGE = """\
usage: orc-config get KEY...
       orc-config check [FILE]
       orc-config show [--json]
       orc-config init

get prints values as a shell likes them: true or false, times in seconds, a list with one entry per line; of
several keys each value on one line, lists joined by commas. check prints each mistake with file and line and
ends with 78 if there is one. show prints all values in force, and which the environment overrides. init writes
the commented file with all defaults into ORC_HOME, and ends with 1 if there is one already.

  --json                  show: one document

examples:
  orc-config get delivery.ttl components.broker
  ORC_MONITORING_MAX_MESSAGES_PER_MINUTE=20 orc-config show | grep 'from ORC_'
"""


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    actions = {"get": _get, "check": _check, "show": _show, "init": _init}
    if not given.args:
        raise errors.UsageError(f"what to do is missing: give {', '.join(actions)}")
    action, *rest = given.args
    if action not in actions:
        raise errors.UsageError(f"unknown action {action!r}{options.near(action, list(actions))}: see --help")
    if given.json and action != "show":
        raise errors.UsageError(f"{action} has no --json: leave it out")
    return actions[action](rest, given)


def _get(names: list[str], given: options.Options) -> int:
    if not names:
        raise errors.UsageError("which key is missing: orc-config show lists them")
    settings = config.load(paths.find_home())
    values = [_value(settings, name) for name in names]
    if len(values) == 1 and isinstance(values[0], list):
        lines = [_word(part) for part in values[0]]
    else:
        lines = [",".join(map(_word, value)) if isinstance(value, list) else _word(value) for value in values]
    sys.stdout.write("".join(line + "\n" for line in lines))
    return errors.OK


def _value(settings: config.Config, name: str) -> Any:
    try:
        return settings.get(name)
    except KeyError:
        from tmux_orchestrator.ground import config_schema

        section = settings.values.get(name.partition(".")[0])
        close = config_schema.nearest(name, list(section if isinstance(section, dict) else settings.values))
        raise errors.UsageError(f"unknown key {name!r}{close}: orc-config show lists them") from None


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return output.clean(value)
    return fastjson.dumps(output.tidy(value))


def _check(names: list[str], given: options.Options) -> int:
    from tmux_orchestrator.ground import config_compile, config_file, config_schema

    if len(names) > 1:
        raise errors.UsageError("check takes one file: call it for each")
    file = names[0] if names else paths.find_home().config_file
    data, _ = config_file.read(file)
    if data is None and names:
        raise errors.ConfigError(f"{file} is not there: name a file that is")
    shown = file if names else os.path.basename(file)
    mistakes = config_compile.check(data or b"", shown)
    if not names:
        mistakes += config_schema.check_environment(dict(os.environ))
    sys.stdout.write("".join(output.clean(line) + "\n" for line in mistakes))
    if mistakes:
        plural = "s" if len(mistakes) > 1 else ""
        raise errors.ConfigError(f"{len(mistakes)} mistake{plural} in the configuration: mend the lines printed")
    return errors.OK


def _show(names: list[str], given: options.Options) -> int:
    from tmux_orchestrator.ground import config_text

    if names:
        raise errors.UsageError("show takes no key: get does")
    settings = config.load(paths.find_home())
    if given.json:
        print(fastjson.dumps(output.tidy(settings.values) | {"environment": settings.from_env}))
    else:
        sys.stdout.write(config_text.in_force(settings))
    return errors.OK


def _init(names: list[str], given: options.Options) -> int:
    from tmux_orchestrator.ground import config_text, files

    if names:
        raise errors.UsageError("init takes no argument: ORC_HOME says where")
    home = paths.find_home()
    if os.path.lexists(home.config_file):
        print(f"orc-config: {home.config_file} is there already: edit it, or move it away", file=sys.stderr)
        return errors.NO
    if not os.path.isdir(home.root):
        files.make_dir(home.root)
    files.replace(home.config_file, config_text.default_file().encode())
    print(home.config_file)
    return errors.OK
