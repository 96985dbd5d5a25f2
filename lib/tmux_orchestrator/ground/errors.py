"""The exit codes of every command, and the errors that carry them.

This is the only module that knows the numbers. Library code raises; `run` turns an error into one line on
stderr and its exit code. A message says what is wrong and, after a colon, what to do about it.
2 is never used: in the hooks of agent CLIs it means "block".
"""

OK = 0
NO = 1
USAGE = 64
DATA = 65
UNAVAILABLE = 69
DEFECT = 70
SYSTEM = 74
LATER = 75
NOPERM = 77
CONFIG = 78
TIMEOUT = 124
CANNOT_RUN = 126  # of a command that we were to run, as shells say it
NOT_FOUND = 127


class OrcError(Exception):
    """Any expected failure; `code` is the exit code that a command ends with."""

    code = DEFECT


class UsageError(OrcError):
    """The command line is wrong."""

    code = USAGE


class DataError(OrcError):
    """The data is wrong: oversize, not JSON, a damaged file."""

    code = DATA


class UnavailableError(OrcError):
    """Something that is needed is not there: no tmux server, no daemon, the target is gone."""

    code = UNAVAILABLE


class SystemFailure(OrcError):
    """The system refused: disk full, an I/O error. Nothing was half done."""

    code = SYSTEM


class TryLater(OrcError):
    """Rate limited, lock busy, queue full."""

    code = LATER


class NotPermitted(OrcError):
    """The caller may not do this."""

    code = NOPERM


class ConfigError(OrcError):
    """The configuration is wrong."""

    code = CONFIG


class GaveUp(OrcError):
    """Waited as long as was asked for."""

    code = TIMEOUT
