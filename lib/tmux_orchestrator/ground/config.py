"""The configuration as every command reads it: from a copy that was compiled once.

`logs/run/config.json` holds all values, checked and converted, with the stamp of the YAML file (path, times,
size, inode) and of the code that they came from. Only while both agree with what is there is the copy believed;
otherwise `config_compile`, and with it yaml, is imported and the copy replaced. A crash leaves the old copy or
the new one; losing it costs one slow start. Without a YAML file the defaults apply.
`ORC_<SECTION>_<KEY>` in the environment overrides a key; an empty one counts as not set.
"""

from __future__ import annotations

import os

from tmux_orchestrator import __version__
from tmux_orchestrator.ground import fastjson, paths
from tmux_orchestrator.ground.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))
_SCHEMA = _HERE + "/config_schema.py"
_code: list[object] = []


class Config:
    """The values in force: file, else default, and the environment above both."""

    __slots__ = ("digest", "from_env", "stamp", "values")

    def __init__(self, compiled: dict[str, Any]) -> None:
        self.values: dict[str, Any] = compiled["values"]
        self.stamp: list[object] = compiled["stamp"]
        self.digest: str = compiled["digest"]
        self.from_env: dict[str, str] = {}  # key -> the variable that set it
        variables = compiled["variables"]
        for name in sorted(name for name in os.environ if name[:3] == "ORC" and name in variables):
            if os.environ[name]:
                self._override(name, *variables[name])

    def _override(self, variable: str, key: str, kind: str) -> None:
        text = os.environ[variable]
        value: object = text
        if kind != "text" or not text.isprintable():  # plain text needs no schema: ORC_TMUX_SOCKET is often set
            from tmux_orchestrator.ground import config_schema

            value = config_schema.from_variable(variable, key, text)
        *above, leaf = key.split(".")
        place = self.values
        for part in above:
            place = place[part]
        place[leaf] = value
        self.from_env[key] = variable

    def get(self, key: str) -> Any:
        """The value of `section.key`, converted: durations are float seconds. Raises KeyError."""
        value: Any = self.values
        for part in key.split("."):
            if not isinstance(value, dict):
                raise KeyError(key)
            value = value[part]
        return value

    @property
    def groups(self) -> dict[str, list[str]]:
        return self.values["groups"]  # type: ignore[no-any-return]

    @property
    def rules(self) -> list[dict[str, Any]]:
        return self.values["rules"]  # type: ignore[no-any-return]

    @property
    def profiles(self) -> dict[str, dict[str, Any]]:
        return self.values["profiles"]  # type: ignore[no-any-return]


def stamp(home: paths.Home) -> list[object]:
    """What changes when the YAML file or the code does. Raises ConfigError."""
    return stamp_of(home.config_file, file_status(home.config_file))


def file_status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}: see who may") from None


def stamp_of(path: str, found: os.stat_result | None) -> list[object]:
    if not _code:  # asked once: a daemon that runs through an upgrade must not sign for the new code
        _code.append(__version__)
        _code.extend(place.st_mtime_ns if (place := file_status(file)) else 0 for file in (_HERE, _SCHEMA))
    return [*_code, path, *([found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino] if found else [])]


def compiled_file(home: paths.Home) -> str:
    return home.run + "/config.json"


def _compiled(path: str, wanted: list[object]) -> dict[str, Any] | None:
    """The compiled copy, if it is ours and comes from what is there now."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return None
        data = os.read(fd, found.st_size)
    except OSError:
        return None
    finally:
        os.close(fd)
    try:
        compiled = fastjson.loads(data)
    except ValueError:
        return None
    return compiled if isinstance(compiled, dict) and compiled.get("stamp") == wanted else None


def load(home: paths.Home) -> Config:
    """The configuration in force. Raises ConfigError that names file and line, or the variable."""
    compiled = _compiled(compiled_file(home), stamp(home))
    if compiled is None:
        paths.add_packages()
        from tmux_orchestrator.ground import config_compile

        compiled = config_compile.compile_home(home, compiled_file(home), stamp_of)
    return Config(compiled)


def changed(home: paths.Home, old: Config) -> bool:
    """Is what `old` was read from no longer what is there? One or two stats."""
    return stamp(home) != old.stamp


class Live:
    """A daemon's configuration: follows the file, and stays as it is while the file is wrong.

    `config` is what is in force; `problem` says what is wrong with the newest file, "" when nothing is.
    """

    def __init__(self, home: paths.Home) -> None:
        self.home = home
        self.config = load(home)
        self.problem = ""
        self._seen = self.config.stamp

    def poll(self) -> bool:
        """Look once. True when `config` or `problem` changed, so that it is said once."""
        before = self.config.digest, self.problem
        try:
            now = stamp(self.home)
            if now == self._seen:
                return False
            self._seen = now
            self.config = load(self.home)
            self._seen = self.config.stamp
            self.problem = ""
        except ConfigError as error:
            self.problem = str(error)
        return before != (self.config.digest, self.problem)
