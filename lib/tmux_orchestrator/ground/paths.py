"""Where everything lies: the code, and the home that holds the log, the state and the configuration.

`ORC_HOME` names the home; without it, it is the checkout whose `bin/` was run, or `~/.tmux-orchestrator` for
an installed copy. Nothing is made here: a folder comes into being when it is first written to.
"""

from __future__ import annotations

import os
import sys

from tmux_orchestrator.ground.errors import ConfigError

CODE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


class Home:
    """The absolute paths of one system."""

    __slots__ = ("config_file", "data", "events", "logs", "registry", "root", "run")

    def __init__(self, root: str) -> None:
        self.root = root
        self.logs = root + "/logs"
        self.events = root + "/logs/events"
        self.run = root + "/logs/run"
        self.registry = root + "/registry"
        self.data = root + "/data"
        self.config_file = root + "/orchestrator_config.yaml"

    def pid_file(self, component: str) -> str:
        return f"{self.logs}/{component}.pid"

    def out_file(self, component: str) -> str:
        return f"{self.logs}/{component}.out"


def find_home() -> Home:
    """The home that the environment, or the place of the code, names."""
    root = os.environ.get("ORC_HOME", "")
    if not root:
        if os.path.exists(CODE + "/orchestrator_manager.sh"):
            return Home(CODE)
        user = os.environ.get("HOME", "")
        if not user.startswith("/"):
            raise ConfigError("neither ORC_HOME nor HOME is set: set ORC_HOME to the folder of the system")
        return Home(user + "/.tmux-orchestrator")
    if "\n" in root or "\0" in root:
        raise ConfigError("ORC_HOME holds a control character: name another folder")
    return Home(os.path.abspath(root))


def add_packages() -> None:
    """Put the installed packages on the path: the stubs start Python without them."""
    folder = f"{CODE}/.venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    if folder not in sys.path:
        sys.path.append(folder)
