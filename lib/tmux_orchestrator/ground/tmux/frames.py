"""What tmux writes to a control-mode client, cut into answers, and the answers put together to replies.

An answer stands between `%begin` and `%end` (or `%error`) that bear the same three numbers; what is in it may
imitate them. Answers to commands that hooks of the user's configuration run bear another flag. Notifications come
between answers, and now and then a bare line of error text.
"""

from __future__ import annotations

from collections import deque

from tmux_orchestrator.ground.tmux.words import Line, Reply, text

SESSION = "_orc"
# Nobody may ever ask for the notifications: the oldest go.
MOST_NOTES = 1000


class Frames:
    """A cutter: feed it bytes, take answers and notes. `said` is the last error text, `exited` the end of it all."""

    def __init__(self) -> None:
        self.answers: deque[Reply] = deque()
        self.notes: deque[str] = deque(maxlen=MOST_NOTES)
        self.said = ""
        self.exited = False
        self._rest = b""
        self._open: bytes | None = None
        self._end = b""
        self._body: list[bytes] = []

    def feed(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if self._open is not None:
                if line == self._end:
                    self._close(None)
                elif line[:7] == b"%error " and line[7:] == self._open:
                    self._close(text(b"\n".join(self._body)))
                else:
                    self._body.append(line)
            elif line.startswith(b"%begin "):
                self._open = line[7:]
                self._end = b"%end " + self._open
                self._body = []
            elif line.startswith(b"%"):
                self._note(text(line))
            elif line:
                self.said = text(line)

    def _note(self, note: str) -> None:
        # Where detach-on-destroy is off, tmux moves us to a session of somebody else when ours is killed.
        moved = note.startswith("%session-changed ") and not note.endswith(f" {SESSION}")
        self.exited = self.exited or moved or note.split(" ")[0] == "%exit"
        self.notes.append(note)

    def _close(self, error: str | None) -> None:
        if self._open is not None and self._open.endswith(b" 1"):
            self.answers.append(Reply(self._body, error))
        elif error:
            self.said = error
        self._open = None


class Replies:
    """The replies of one exchange, whose last command prints the secret.

    `astray`: the secret was not where it had to be, so that no reply can be believed.
    """

    def __init__(self, lines: list[Line], secret: str) -> None:
        self.done: list[Reply] = []
        self.complete = False
        self.astray = False
        self._lines = lines
        self._secret = [secret.encode()]
        self._reply = Reply()
        self._count = 0

    def take(self, answer: Reply) -> None:
        is_last = answer.lines == self._secret
        if self.complete or is_last != (len(self.done) == len(self._lines)):
            self.astray = True
        elif is_last:
            self.complete = True
        else:
            self._add(answer)

    def _add(self, answer: Reply) -> None:
        """One answer comes per command, and none after an error."""
        line = self._lines[len(self.done)]
        self._reply.lines += answer.lines
        self._reply.error = answer.error
        self._count += 1
        if answer.error is not None or self._count == line.replies + len(line.texts):
            self.done.append(self._reply)
            self._reply = Reply()
            self._count = 0
