"""The demo agent with hooks, as agent CLIs run them: hooked.py CLI --log FILE [options of the demo agent].

It calls `orc-hook CLI EVENT` with a payload when it starts, when a prompt begins a turn, when it asks for permission
and when a turn is about to end, waits for the answer, and writes down what its model would be told besides:
{"context": text} beside a prompt, {"continued": text} where a turn goes on. Esc calls none. While the file FILE.mute
is there it calls none at all; while FILE.late is there, no dialog comes after the permission hook. When FILE.end comes,
its turn ends, and the file is gone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
spec = importlib.util.spec_from_file_location("demo_agent", ROOT + "/share/demo/agent.py")
assert spec is not None and spec.loader is not None
demo: Any = importlib.util.module_from_spec(spec)
sys.modules["demo_agent"] = demo
spec.loader.exec_module(demo)

CLI = sys.argv.pop(1)


class Hooked(demo.Agent):  # type: ignore[misc]
    """The demo agent, whose edges of a turn are told."""

    late: str | None = None  # the prompt whose dialog is to come

    def hook(self, event: str, **fields: object) -> dict[str, Any]:
        """What the hook printed."""
        if os.path.exists(f"{self.log_path}.mute"):
            return {}
        payload = json.dumps({"session_id": "s-1", "hook_event_name": event, **fields}).encode()
        done = subprocess.run(["orc-hook", CLI, event], input=payload, capture_output=True, timeout=10, check=False)
        self.log(hook=event, code=done.returncode)
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def _begin(self, prompt: str, now: float) -> None:
        said = self.hook("UserPromptSubmit", prompt=prompt)
        context = said.get("hookSpecificOutput", {}).get("additionalContext")
        if context:
            self.log(context=context)
        super()._begin(prompt, now)

    def _finish(self, prompt: str) -> None:
        tool = demo.re.search(r"\[\[tool:(.+?)\]\]", prompt)
        if tool:
            self.hook("PermissionRequest", tool_name="Bash", tool_input={"command": tool.group(1)})
            self.late = prompt
            self.job = demo.Job("", demo.time.monotonic(), float("inf"))
            return
        super()._finish(prompt)
        self._stop()

    def _stop(self) -> None:
        reason = self.hook("Stop").get("reason")
        if reason:
            self.log(continued=reason)
            now = demo.time.monotonic()
            self.job = demo.Job("", now, now + self.work)

    def tick(self, now: float) -> None:
        if self.job and os.path.exists(f"{self.log_path}.end"):
            os.unlink(f"{self.log_path}.end")
            self.job.until = now
        if self.late is not None and not os.path.exists(f"{self.log_path}.late"):
            prompt, self.late, self.job = self.late, None, None
            super()._finish(prompt)
        super().tick(now)


demo.Agent = Hooked
write_first = demo.loop


def loop(agent: Hooked, wake: int) -> None:
    agent.hook("SessionStart", source="startup")
    write_first(agent, wake)


demo.loop = loop
sys.exit(demo.main())
