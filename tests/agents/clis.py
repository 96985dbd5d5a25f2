"""The real agent CLIs in a scratch folder: installed from npm, with homes of their own, pointed at the endpoint.

Nothing of the person who runs the tests is read or sent: each CLI gets an empty HOME and a minimal environment.
The folder may be kept (`ORC_AGENTS_DIR`), so that the CLIs are fetched once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

PACKAGES = {
    "codex": "@openai/codex",
    "claude": "@anthropic-ai/claude-code",
    "gemini": "@google/gemini-cli",
}
KEY = "test-key-00000000000000"


def install(folder: str) -> None:
    """Fetch the three packages, unless they are there."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if all(os.path.exists(f"{folder}/node_modules/.bin/{name}") for name in PACKAGES):
        return
    with open(f"{folder}/package.json", "w", encoding="utf-8") as file:
        json.dump({"name": "agents", "version": "0.0.0", "private": True}, file)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", *PACKAGES.values()], cwd=folder, check=True)
    # npm does not run this one by itself; without it the command is only a notice
    subprocess.run(["node", "node_modules/@anthropic-ai/claude-code/install.cjs"], cwd=folder, check=True)


def version(folder: str, name: str) -> str:
    with open(f"{folder}/node_modules/{PACKAGES[name]}/package.json", encoding="utf-8") as file:
        return str(json.load(file)["version"])


def program(folder: str, name: str) -> str:
    return f"{folder}/node_modules/.bin/{name}"


def environment(name: str, home: str, port: int) -> dict[str, str]:
    """What the CLI needs to start without questions and to talk to the endpoint."""
    node = os.path.dirname(shutil.which("node") or "/usr/bin/node")
    env = {
        "HOME": home,
        "PATH": f"{node}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TERM": "screen-256color",
    }
    if name == "codex":
        env["TEST_KEY"] = KEY
    elif name == "claude":
        env |= {
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}",
            "ANTHROPIC_API_KEY": KEY,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }
    else:
        env |= {"GEMINI_API_KEY": KEY, "GOOGLE_GEMINI_BASE_URL": f"http://127.0.0.1:{port}"}
    return env


def prepare(name: str, home: str, project: str, port: int, trusted: bool = True) -> None:
    """Write the CLI's settings into its scratch home."""
    os.makedirs(project, exist_ok=True)
    if name == "codex":
        _write(f"{home}/.codex/config.toml", _codex(project, port, trusted))
    elif name == "claude":
        _write(f"{home}/.claude.json", json.dumps(_claude(project, trusted)))
    else:
        settings = {"security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": not trusted}}}
        _write(f"{home}/.gemini/settings.json", json.dumps(settings | {"general": {"disableAutoUpdate": True}}))


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _codex(project: str, port: int, trusted: bool) -> str:
    lines = [
        'model = "test"',
        'model_provider = "local"',
        'approval_policy = "on-request"',
        'sandbox_mode = "read-only"',
        "check_for_update_on_startup = false",
        "[model_providers.local]",
        'name = "local"',
        f'base_url = "http://127.0.0.1:{port}/v1"',
        'wire_api = "responses"',
        'env_key = "TEST_KEY"',
    ]
    if trusted:
        lines += [f"[projects.{json.dumps(project)}]", 'trust_level = "trusted"']
    return "\n".join(lines) + "\n"


def _claude(project: str, trusted: bool) -> dict[str, Any]:
    folder = {"hasTrustDialogAccepted": trusted, "allowedTools": []}
    return {
        "hasCompletedOnboarding": True,
        "theme": "dark",
        "customApiKeyResponses": {"approved": [KEY[-20:], KEY], "rejected": []},
        "projects": {project: folder},
    }
