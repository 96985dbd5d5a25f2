"""A question on an agent's screen: who is to answer it, and what they are told. Pure.

A worker's goes to its project manager, who knows the task, before it goes to a person: the one of its session, else
the only one there is, else whoever is in the group `management`. A project manager's own goes to whom escalations go.
Who waits for a person as well is never asked: it could not read the question. A person is named where nobody else
is left; a person always sees it in `orc-status`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tmux_orchestrator.agents import managers
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.screen import question_id
from tmux_orchestrator.ground.output import clean
from tmux_orchestrator.watch.escalation import reached
from tmux_orchestrator.watch.lives import Life
from tmux_orchestrator.watch.matters import Matter

GROUP = "management"
_QUESTION = 500  # characters of the question that are told
_LABEL = 120  # and of one choice
_MOST = 9  # choices: a dialog's are answered by one digit
# How a choice is called where the dialog shows no numbered ones, if the profile knows the word.
_WORDS = ("yes", "no", "always", "enter", "cancel")


@dataclass(slots=True)
class Asked:
    """Whom to tell. `to_person`: nobody who is registered can answer, so somebody has to attach."""

    targets: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    to_person: bool = False


def route(
    agents: Iterable[Agent],
    waiting: Agent,
    escalate_to: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    busy: Iterable[str] = (),
) -> Asked:
    """Whom to tell of `waiting`'s question.

    `escalate_to` and `groups` are the configuration's, `busy` the keys of all agents that wait for a person now.
    """
    everybody, away = list(agents), set(busy)
    if waiting.role == managers.ROLE:
        above = reached(everybody, escalate_to, waiting.key, away)
        return Asked(targets=above, to_person=not above)
    others = [one for one in everybody if one.key != waiting.key and one.key not in away]
    manager = managers.of_session(others, waiting.session)
    if manager is not None:
        return Asked(targets=[manager.key])
    joined = any(GROUP in one.groups and not one.ended for one in others)
    if joined or reached(everybody, groups.get(GROUP, ()), waiting.key, away):
        return Asked(groups=[GROUP])
    return Asked(to_person=True)


def commands(waiting: Agent, choices: Sequence[str], known: Iterable[str], asked: str = "") -> list[tuple[str, str]]:
    """(command, what it chooses) for each choice that `orc-agent answer` can give.

    `choices` are the dialog's labels, `known` the answers of the agent's profile. Where the labels are not numbered
    ("1. Yes"), the words that the profile knows stand in. `asked`: the question's id, so that no later one is answered.
    """
    words, target = set(known), shlex.quote(_target(waiting))
    numbered = [(label.partition(".")[0], label) for label in choices[:_MOST]]
    offered = [(number, _cut(label, _LABEL)) for number, label in numbered if number.isdigit() and number in words]
    if not offered:
        offered = [(word, "") for word in _WORDS if word in words]
    only = f" --asked {asked}" if asked else ""
    return [(f"orc-agent answer {target} {choice}{only}", label) for choice, label in offered]


def message(waiting: Agent, question: str, choices: Sequence[str], known: Iterable[str], asked: str = "") -> str:
    """What whoever is asked gets to read: the question, and the very command for each answer."""
    target = shlex.quote(_target(waiting))
    lines = [f"Agent {clean(waiting.key)} waits for an answer: {_cut(question, _QUESTION) or 'a dialog is open'}"]
    offered = commands(waiting, choices, known, asked)
    lines += [f"- {command}" + (f"    ({label})" if label else "") for command, label in offered]
    if not offered:
        lines.append(f"- orc-agent attach {target}    (its profile knows no answer)")
    lines.append(f"- to see it first: orc-agent peek {target}")
    return "\n".join(lines)


def _target(waiting: Agent) -> str:
    """How the agent is called on a command line; by its pane where its session's name could not be copied."""
    return waiting.key if waiting.key.isprintable() or not waiting.pane else waiting.pane


def _cut(text: str, size: int) -> str:
    text = clean(" ".join(text.split()))
    return text if len(text) <= size else text[: size - 1] + "…"


def address(matter: Matter, life: Life, to: Asked, known: Iterable[str]) -> Matter:
    """The matter that `life` waits for an answer, as it is told to whom it is for."""
    agent, screen, words = life.seen.agent, life.seen.screen, list(known)
    choices = list(screen.choices) if screen else []
    asked = question_id(screen.question) if screen else ""
    context = matter.context | {
        "question": life.question[:_QUESTION],
        "choices": [label[:_LABEL] for label in choices[:_MOST]],
        "answers": [command for command, _ in commands(agent, choices, words, asked)],
        "to_person": to.to_person,
    }
    text = message(agent, life.question, choices, words, asked)
    return replace(matter, text=text, targets=tuple(to.targets), context=context)
