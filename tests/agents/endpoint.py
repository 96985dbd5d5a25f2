#!/usr/bin/env python3
"""A model on loopback that thinks nothing: what the real agent CLIs talk to in the tests.

It speaks the streaming forms of Anthropic Messages, OpenAI Responses and Gemini. Its log is the truth about what
was submitted: one JSON line per request, {"time", "api", "main", "prompts", "history"}. `prompts` are the user's
texts since the model last spoke, and each message that a hook of ours handed over; `history` all of the conversation;
`main` is false for the CLIs' side questions (titles, routing).

What the newest prompt holds steers the answer:

  [[slow:N]]   answer after N seconds            [[limit]]  429, a usage limit
  [[tool:CMD]] ask to run CMD in the shell       [[error]]  500

usage: endpoint.py PORT LOG [--delay SECONDS]      PORT 0 takes a free one; the port is printed
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Doc = dict[str, Any]
SPOKEN = ("assistant", "model")
# what the CLIs put into a user's turn themselves
OWN_WORDS = re.compile(
    r"\s*(<(system-reminder|environment_context|session_context|turn_aborted)|\[Request interrupted)"
)
# How a CLI tells its model what a hook of ours printed, beside a prompt or in place of the end of a turn. It may put
# that at the end of a longer text of its own.
HANDED = re.compile(
    r"(?:^|\n\n)(UserPromptSubmit hook additional context: |Stop hook feedback:\n|<hook_prompt [^>]*>|^)"
    r"(\[(?:🚨|⚠|📨|💤).*?)(?:</hook_prompt>)?$",
    re.DOTALL,
)
BETWEEN = re.compile(r"\n\n(?=\[(?:🚨|⚠|📨|💤))")


def turns_of(request: Doc) -> list[Doc]:
    for key in ("messages", "input", "contents"):
        turns = request.get(key)
        if isinstance(turns, str):
            return [{"role": "user", "content": turns}]
        if turns:
            return [turn for turn in turns if isinstance(turn, dict)]
    return []


def texts_of(turn: Doc) -> list[str]:
    parts = turn.get("content") or turn.get("parts") or []
    if isinstance(parts, str):
        return [parts]
    return [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]


def has_spoken(turn: Doc) -> bool:
    return turn.get("role") in SPOKEN or turn.get("type") in ("function_call", "reasoning")


def prompts_of(request: Doc) -> tuple[list[str], list[str]]:
    """The user's texts, oldest first, without what the CLIs add themselves: since the model last spoke, and all."""
    since: list[str] = []
    history: list[str] = []
    for turn in turns_of(request):
        if has_spoken(turn):
            since = []
        else:
            texts = messages_of(turn)
            since += texts
            history += texts
    return since, history


def messages_of(turn: Doc) -> list[str]:
    """What the user said, and one by one what a hook handed over, in whatever role the CLI gives that."""
    found: list[str] = []
    for text in texts_of(turn) if turn.get("role") in ("user", "system", "developer") else []:
        handed = HANDED.search(text)
        if handed and (handed[1] or turn["role"] == "developer"):
            found += BETWEEN.split(handed[2])
        elif turn["role"] == "user" and not OWN_WORDS.match(text):
            found.append(text)
    return found


def brings_result(request: Doc) -> bool:
    """True when the newest turn answers a tool call and says nothing else: the tool is not asked for again."""
    turns = turns_of(request)
    if not turns or turns[-1].get("type") == "function_call_output":
        return bool(turns)
    parts = turns[-1].get("content") or turns[-1].get("parts")
    result = False
    for part in parts if isinstance(parts, list) else []:
        if part.get("type") == "tool_result" or "functionResponse" in part:
            result = True
        elif part.get("text") and not OWN_WORDS.match(part["text"]):
            result = False
    return result


def events_anthropic(text: str, tool: str | None, model: str) -> Iterator[tuple[str, Doc]]:
    usage = {"input_tokens": 5, "output_tokens": 5}
    # a new id each time: Claude Code joins answers of the same id into one turn
    head = {
        "id": f"msg_{time.time_ns()}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "usage": usage,
    }
    yield "message_start", {"message": head | {"stop_reason": None, "stop_sequence": None}}
    if tool:
        start: Doc = {"type": "tool_use", "id": f"toolu_{time.time_ns()}", "name": "Bash", "input": {}}
        arguments = json.dumps({"command": tool, "description": "asked for in a test"})
        delta = {"type": "input_json_delta", "partial_json": arguments}
    else:
        start = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": text}
    yield "content_block_start", {"index": 0, "content_block": start}
    yield "content_block_delta", {"index": 0, "delta": delta}
    yield "content_block_stop", {"index": 0}
    reason = "tool_use" if tool else "end_turn"
    yield "message_delta", {"delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}
    yield "message_stop", {}


def events_openai(text: str, tool: str | None, model: str) -> Iterator[tuple[str, Doc]]:
    number = time.time_ns()
    if tool:
        arguments = {"cmd": tool, "sandbox_permissions": "require_escalated", "justification": "asked for in a test"}
        item = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": "exec_command"}
        item |= {"arguments": json.dumps(arguments)}
    else:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        item = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed"}
        item |= {"content": content}  # type: ignore[dict-item]
    answer = {"id": f"resp_{number}", "object": "response", "model": model, "status": "in_progress", "output": []}
    tokens = {"input_tokens": 5, "output_tokens": 5, "total_tokens": 10}
    tokens |= {"input_tokens_details": {"cached_tokens": 0}}  # type: ignore[dict-item]
    tokens |= {"output_tokens_details": {"reasoning_tokens": 0}}  # type: ignore[dict-item]
    yield "response.created", {"response": answer}
    yield "response.output_item.added", {"output_index": 0, "item": item}
    yield "response.output_item.done", {"output_index": 0, "item": item}
    yield "response.completed", {"response": answer | {"status": "completed", "output": [item], "usage": tokens}}


def answer_gemini(text: str, tool: str | None) -> Doc:
    call = {"name": "run_shell_command", "args": {"command": tool, "description": "asked for in a test"}}
    part: Doc = {"functionCall": call} if tool else {"text": text}
    candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
    counts = {"promptTokenCount": 5, "candidatesTokenCount": 5, "totalTokenCount": 10}
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": "test", "responseId": "r"}


def api_of(path: str) -> str:
    if "count_tokens" in path or "countTokens" in path:
        return ""
    return (
        "anthropic"
        if path.split("?")[0].endswith("/messages")
        else "openai"
        if path.split("?")[0].endswith("/responses")
        else "gemini"
        if "enerateContent" in path
        else ""
    )


class Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    log_path = ""
    delay = 0.1
    writing = threading.Lock()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": [{"id": "test", "object": "model"}], "models": []})

    def do_HEAD(self) -> None:
        self._json(200, {})

    def do_POST(self) -> None:
        arrived = time.time()
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            request = json.loads(body)
        except ValueError:
            request = {}
        api = api_of(self.path)
        if not api:
            self._json(200, {"input_tokens": 1, "totalTokens": 1})
            return
        (prompts, history), main = prompts_of(request), bool(request.get("tools"))
        self._note(time=arrived, api=api, main=main, prompts=prompts, history=history if main else [])
        newest = prompts[-1] if prompts else ""
        slow = re.findall(r"\[\[slow:([\d.]+)\]\]", newest)
        time.sleep(float(slow[-1]) if slow and main else self.delay)
        try:
            self._answer(api, request, newest, main)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _answer(self, api: str, request: Doc, newest: str, main: bool) -> None:
        if "[[limit]]" in newest:
            self._limit(api)
            return
        if "[[error]]" in newest:
            self._json(500, {"type": "error", "error": {"type": "api_error", "message": "internal error"}})
            return
        asked = re.findall(r"\[\[tool:(.+?)\]\]", newest)
        tool = asked[-1] if asked and main and not brings_result(request) else None
        text = "Done: " + " ".join(newest.split())[-60:]
        if api == "gemini":
            self._gemini(request, text, tool)
        elif api == "anthropic" and not request.get("stream"):
            usage = {"input_tokens": 5, "output_tokens": 5}
            doc = {"id": "msg_test", "type": "message", "role": "assistant", "model": request.get("model")}
            doc |= {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "usage": usage}
            self._json(200, doc)
        else:
            make: Callable[[str, str | None, str], Iterator[tuple[str, Doc]]]
            make = events_anthropic if api == "anthropic" else events_openai
            self._stream((f"event: {kind}\n", {"type": kind, **doc}) for kind, doc in make(text, tool, "test"))

    def _limit(self, api: str) -> None:
        error: Doc = {"type": "rate_limit_error", "message": "This request would exceed your usage limit"}
        if api == "openai":
            error |= {"type": "usage_limit_reached", "plan_type": "plus", "resets_at": int(time.time()) + 5400}
        elif api == "gemini":
            error |= {"code": 429, "status": "RESOURCE_EXHAUSTED"}
        self._json(429, {"type": "error", "error": error})

    def _gemini(self, request: Doc, text: str, tool: str | None) -> None:
        wanted = (request.get("generationConfig") or {}).get("responseMimeType")
        if wanted == "application/json":
            text = json.dumps({"reasoning": "a test", "model_choice": "flash", "complexity_score": 1})
        doc = answer_gemini(text, tool)
        if "stream" in self.path:
            self._stream([("", doc)])
        else:
            self._json(200, doc)

    def _note(self, **fields: object) -> None:
        with self.writing, open(self.log_path, "a", encoding="utf-8") as log:
            log.write(json.dumps(fields) + "\n")

    def _json(self, status: int, doc: Doc) -> None:
        body = json.dumps(doc).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self, events: Any) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for head, doc in events:
            self.wfile.write(f"{head}data: {json.dumps(doc)}\n\n".encode())
        self.wfile.flush()
        self.close_connection = True


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("log")
    parser.add_argument("--delay", type=float, default=0.1, metavar="SECONDS")
    options = parser.parse_args()
    Model.log_path, Model.delay = options.log, options.delay
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Model)
    print(server.server_address[1], flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
