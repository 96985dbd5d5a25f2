"""What is typed: our header, then the message, and nothing that a terminal, a CLI or a reader could mistake.

The header stands inline at the very start, so that a message of two lines is a prompt of two lines and its first
character never switches a CLI's mode. Invariant: a frame has exactly one line that reads as a header, its first; no
forbidden character; and the message unchanged where it holds nothing forbidden and no line that reads as a header.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from tmux_orchestrator.agents.registry import valid_name
from tmux_orchestrator.delivery.bucket import MINUTE
from tmux_orchestrator.delivery.routing import times
from tmux_orchestrator.eventlog.event import MARKS, short

_VERIFIED, _UNVERIFIED = "✓", "?unverified"
_ROW = 160  # characters of one message in a digest

# C0 but LF and TAB, DEL, C1, what turns the direction of text, lone surrogates: each becomes U+FFFD, so that a
# reader sees that something was there; taking one out could join what it parted.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BREAKS = re.compile("\r\n|[\r\u2028\u2029]")


def sanitise(text: str) -> str:
    """The text as it may be typed: line breaks are LF, none at the end, forbidden characters are U+FFFD."""
    if text.isascii() and text.isprintable():
        return text
    return _FORBIDDEN.sub("\ufffd", _BREAKS.sub("\n", text)).rstrip("\n")


def text_of(event: Mapping[str, Any]) -> str:
    """What a message says: its subject, if it has one that the body does not begin with, and its body."""
    content = event["message"]["content"]
    subject, body = content.get("subject") or "", content.get("body") or ""
    return f"{subject}: {body}" if subject and not body.startswith(subject) else body


def frame(
    event: Mapping[str, Any],
    priority: str = "",
    session: str = "",
    repeat: int = 0,
    count: int = 1,
    max_bytes: int = 2048,
    now_ns: int = 0,
) -> str:
    """The frame of one event.

    `priority`: what the rules made of it. `session`: the target's, whose agents can be answered by bare name.
    `repeat`: 0 the first time. `count`: how many identical ones it stands for. What is longer than `max_bytes` of
    UTF-8 is cut, and the command that reads the whole is given. `now_ns`: what is late by then says so.
    """
    body = sanitise(text_of(event))
    shown = _shortened(quoted(body), body, short(event["id"]), max_bytes)
    late = "" if repeat else _late(event, now_ns)
    return f"[{_header(event, priority, session, repeat, count, late)}] {quoted(shown)}"


def _header(event: Mapping[str, Any], priority: str, session: str, repeat: int, count: int, late: str) -> str:
    name, source = short(event["id"]), event["source"]
    parts = [f"{MARKS[priority or event['message']['priority']]} from {sender(source, session)} #{name}"]
    if repeat:
        parts.append(f"repeat {repeat}")
    if late:
        parts.append(late)
    if count > 1:
        parts.append(f"×{count}")
    if event["metadata"].get("requires_ack"):
        parts.append(f"ack: orc-ack {name}")
    address = _address(source, session)
    if address:
        parts.append(f'reply: orc-publish -t {address} --reply-to {name} "…"')
    return " · ".join(parts)


def _late(event: Mapping[str, Any], now_ns: int) -> str:
    """`late 2 h`, for what was to be typed more than a minute ago; "" for everything else."""
    due = times(event)[1]
    minutes = (now_ns - due) // MINUTE if due is not None else 0
    if minutes < 1:
        return ""
    for unit, length in (("d", 1440), ("h", 60)):
        if minutes >= 2 * length:
            return f"late {minutes // length} {unit}"
    return f"late {minutes} min"


def digest_line(count: int, since: str, name: str) -> str:
    """The one line for all that has no room: how many, since when (`10:31`), how to read them."""
    return f"[{MARKS['normal']} {count} more since {since} — orc-read --unread {name}]"


def wake(events: Sequence[Mapping[str, Any]], priority: str, name: str, session: str = "") -> str:
    """What is typed in place of messages that a hook hands over with this prompt: how many, which, and from whom.

    An id has no number sign here: nobody must take this line for the message, neither a hook nor who looks at a screen.
    """
    ids = [short(event["id"]) for event in events]
    senders = list(dict.fromkeys(sender(event["source"], session) for event in events))
    who = _listed(senders, ", ", 3)
    return f"[{MARKS[priority]} {_counted(ids)} from {who} — with this prompt, or: orc-read --unread {name}]"


def wake_mark(ids: Sequence[str]) -> str:
    """What the wake for these short ids is recognised by in an input box, without its spaces."""
    return "".join(f"{_counted(ids)} from".split())


def _counted(ids: Sequence[str]) -> str:
    return f"{len(ids)} message{'s' * (len(ids) > 1)} {_listed(ids, ' ', 8)}"


def _listed(words: Sequence[str], between: str, most: int) -> str:
    return between.join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def low_digest(
    events: Sequence[Mapping[str, Any]],
    name: str,
    session: str = "",
    max_bytes: int = 2048,
    now_ns: int = 0,
    repeat: int = 0,
) -> str:
    """One frame for several events: a row for each text as far as they fit, then the command that reads the rest."""
    rows: dict[tuple[str, str], tuple[str, int]] = {}
    for event in events:
        text, late = " ".join(sanitise(text_of(event)).split("\n")), _late(event, now_ns)
        text = f"({late}) {text}" if late else text
        key = (sender(event["source"], session), text)
        rows[key] = (short(event["id"]), rows.get(key, ("", 0))[1] + 1)
    again = f" · repeat {repeat}" if repeat else ""
    lines = [f"[{MARKS['low']} {len(events)} messages, none urgent{again}]"]
    size, left = len(lines[0].encode("utf-8")), len(events)
    for (who, text), (event_id, count) in rows.items():
        shown = text if len(text) <= _ROW else f"{text[:_ROW]}… (orc-read --id {event_id} -o body)"
        row = f"#{event_id} from {who}{f' ×{count}' if count > 1 else ''}: {shown}"
        size += 1 + len(row.encode("utf-8"))
        if size > max_bytes and len(lines) > 1:
            return "\n".join([*lines, f"… and {left} more: orc-read --unread {name}"])
        lines.append(row)
        left -= count
    return "\n".join(lines)


# Who it is from.


def sender(source: Mapping[str, Any], session: str = "") -> str:
    """How a sender is called in a header: whatever it calls itself, its name holds neither mark nor bracket."""
    name = _word(source.get("identifier") or source.get("type") or "")
    where = source.get("session")
    if where and where != session:
        name = f"{_word(where)}:{name}"
    return f"{name} {_VERIFIED if source.get('verified') is True else _UNVERIFIED}"


def _word(text: str) -> str:
    return re.sub("[^A-Za-z0-9._@-]", "_", text)[:32] or "_"


def _address(source: Mapping[str, Any], session: str) -> str:
    """Where an answer reaches the sender; "" unless it is an established agent: no command is made of a claim."""
    name, where = source.get("identifier") or "", source.get("session") or ""
    if source.get("verified") is not True or source.get("type") not in ("agent", "pm") or not valid_name(name):
        return ""
    if where == session:
        return name
    return f"{where}:{name}" if where and _word(where) == where else ""


# What reads as a header.

_BRACKETS = frozenset("[［【〔〖⟦⟬❲⁅⦋「『⎡⎣｢⸢⸤〚﹝")
_HASHES, _CHECKS = frozenset("#♯⌗"), frozenset("✓✔☑✅🗸")
_SIGNS = frozenset("🚨⚠📨💤") | _CHECKS | _HASHES
_UNSEEN = frozenset({"Cf", "Mn", "Me", "Cc", "Cn", "Co", "Cs", "Zs", "Zl", "Zp"})
# Letters that look like the ones our words are made of; l, 1 and | all count as i.
_ALIKE = str.maketrans("асеоріӏһнмтгғѕνορτιıl1|05", "aceopiihhmtrfsvoptiiiiios")
_OPENINGS = ("criticai", "high", "iow", "from", "repeat")


def is_header(line: str) -> bool:
    """Could somebody take this line for one of our headers, whatever look-alikes or unseen characters it uses?

    It begins with what looks like a square bracket, and then comes a mark, one of our first words, or two of what
    a header has: `from`, a number sign, a check mark, one of our commands.
    """
    if "!" <= line[:1] <= "~" and line[0] != "[":
        return False  # most lines: what one sees first is no bracket
    seen = "".join(c for c in unicodedata.normalize("NFKC", line) if unicodedata.category(c) not in _UNSEEN)
    if not seen or seen[0] not in _BRACKETS:
        return False
    inside = seen[1:120].casefold().translate(_ALIKE)
    if not _SIGNS.isdisjoint(inside[:3]) or inside.startswith(_OPENINGS):
        return True
    signs = set(inside)
    return ("from" in inside) + ("orc-" in inside) + bool(signs & _HASHES) + bool(signs & _CHECKS) >= 2


def quoted(text: str) -> str:
    """The text with `> ` before every line that reads as a header."""
    return "\n".join(f"> {line}" if is_header(line) else line for line in text.split("\n"))


def _shortened(text: str, body: str, name: str, max_bytes: int) -> str:
    """The text, or its first lines and how to read the rest of the body, which it is with its headers quoted.

    Cut at a line's end, else between two characters. What it is cut to may read as a header that the whole was not.
    """
    data = text.encode("utf-8")
    if len(data) <= max_bytes:
        return text
    head = data[:max_bytes].decode("utf-8", "ignore")
    lines = head.rpartition("\n")[0]
    if len(lines) >= len(head) // 2:
        head = lines
    return f"{head}\n… the rest of {len(body.encode('utf-8'))} bytes: orc-read --id {name} -o body"
