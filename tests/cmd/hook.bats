#!/usr/bin/env bats
# orc-hook: what agent CLIs' hooks call
load ../helper

setup() {
  make_home
  cd "$BATS_TEST_TMPDIR" || return 1
}

# An agent that runs each command that it is given, as an agent CLI runs its hooks.
agent() {
  mkfifo calls
  cat >agent.sh <<'END'
exec 3<>calls
while read -r line <&3; do sh -c "$line" >said 2>&1; echo "$?" >code; done
END
  orc-run dev --session s --profile claude --role backend -- sh "$PWD/agent.sh" >/dev/null
}

# call PAYLOAD WORD…: the agent calls orc-hook; sets $said and $code
call() {
  printf '%s' "$1" >payload
  shift
  rm -f code
  echo "exec orc-hook $* <'$PWD/payload'" >calls
  eventually test -s code
  said=$(cat said) code=$(cat code)
}

sign() { jq -r "$1" "$ORC_HOME/logs/run/signs/s@dev.json"; }

@test "64: no CLI that is known; nothing is done" {
  expect 64 orc-hook
  one_line "$stderr"
  expect 64 orc-hook cloude Stop
  one_line "$stderr"
  [ ! -e "$ORC_HOME" ]
}

@test "0 and silence for whoever is no agent" {
  expect 0 orc-hook claude Stop <<<'{"session_id": "x"}'
  equals "$output$stderr" ""
  [ ! -e "$ORC_HOME" ]
}

@test "0, silence and one line in the log for payloads that are none" {
  head -c 3000000 /dev/zero | tr '\0' a >huge
  for payload in "" "no JSON" "[]" '{"a": 1' $'\xff\xfe' huge; do
    rm -rf "$ORC_HOME"
    if [ "$payload" = huge ]; then cp huge payload; else printf '%s' "$payload" >payload; fi
    expect 0 orc-hook codex UserPromptSubmit <payload
    equals "$output$stderr" ""
    equals "$(wc -l <"$ORC_HOME/logs/hook.out")" 1
  done
}

@test "a turn: working with the message it took, then idle; the session's id" {
  agent
  call '{"session_id": "abc", "source": "startup"}' claude SessionStart
  equals "$code:$said" 0:
  equals "$(sign '.state, .session_id' | paste -sd ' ')" "idle abc"
  call '{"session_id": "abc", "prompt": "[📨 from pm ✓ #7K2M9Q] go on"}' claude UserPromptSubmit
  equals "$code:$said" 0:
  equals "$(sign '.state, .taken[0][0]' | paste -sd ' ')" "working 7K2M9Q"
  call '{"session_id": "abc", "tool_name": "Bash", "tool_input": {"command": "rm -r x"}}' claude PermissionRequest
  equals "$(sign '.state, .question' | paste -sd ' ')" "waiting Bash: rm -r x"
  call '{"session_id": "abc"}' claude PostToolUse
  equals "$(sign '.state + .question')" working
  call '{"session_id": "abc"}' claude Stop
  equals "$(sign .state)" idle
  call '{"session_id": "abc", "error": "rate_limit"}' claude StopFailure
  equals "$(sign .state)" limited
  call '{"session_id": "abc", "reason": "other"}' claude SessionEnd
  equals "$(sign .state)" ""
}

@test "of a payload that is too large the event counts all the same" {
  agent
  { printf '{"session_id": "abc", "prompt": "' && head -c 1100000 /dev/zero | tr '\0' a && printf '"}'; } >large
  rm -f code
  echo "exec orc-hook claude UserPromptSubmit <'$PWD/large'" >calls
  eventually test -s code
  equals "$(cat code):$(cat said)" 0:
  equals "$(sign '.state + .session_id')" working
  contains "$(cat "$ORC_HOME/logs/hook.out")" "only its event counts"
}

@test "the status line shows what is left, and lets another command print instead" {
  agent
  limits='{"rate_limits": {"five_hour": {"used_percentage": 42.4, "resets_at": 1790000000}}}'
  call "$limits" claude statusLine
  equals "$code:$said" "0:dev · 5h 42%"
  equals "$(sign '.usage.five_hour.resets')" 2026-09-21T14:13:20.000000Z
  call "$limits" claude statusLine --then "'jq -r .rate_limits.five_hour.used_percentage; echo mine'"
  equals "$code:$said" $'0:42.4\nmine'
  expect 0 orc-hook claude statusLine --then "wc -c" <<<"1234"
  equals "$output" 5
}

@test "a compacted conversation is told who it is" {
  agent
  call '{"session_id": "abc", "source": "compact"}' claude SessionStart
  equals "$(jq -r .hookSpecificOutput.hookEventName <<<"$said")" SessionStart
  contains "$(jq -r .hookSpecificOutput.additionalContext <<<"$said")" "orc-read --unread dev"
}

@test "the end of a turn acknowledges what our daemons asked it for, and nothing else" {
  agent
  mkdir -p "$ORC_HOME/logs/events"
  ours=$(orc-publish -t dev --requires-ack --from monitor "told by somebody")
  jq -c '.id = "01M7WFG0R57KNY9BRVETDAEM0N" | .source |= (.type = "daemon" | .verified = true)' \
    "$ORC_HOME"/logs/events/*.jsonl | tail -n 1 >line
  jq -c '.id = "01M7WFG0R57KNY9BRVETAGENT0" | .source.type = "agent"' line >>line
  cat line >>"$(orc-log path)"
  prompt=""
  for id in DAEM0N AGENT0 "${ours: -6}" {100001..100060}; do prompt+="[📨 from monitor ✓ #$id · ack: orc-ack $id] x\\n"; done
  call "{\"prompt\": \"$prompt\"}" claude UserPromptSubmit
  equals "$(sign '.taken | length')" 63
  call '{}' claude Stop
  equals "$code:$said" 0:
  equals "$(orc-read --type ack -o message.content.context.event,source.identifier,source.verified)" \
    $'01M7WFG0R57KNY9BRVETDAEM0N\tdev\ttrue'
}

@test "an agent CLI that the agent runs itself says nothing of the agent" {
  agent
  call '{"session_id": "outer", "prompt": "go"}' claude UserPromptSubmit
  cat >inner.py <<'END'
import subprocess
for event in ("SessionStart", "UserPromptSubmit", "Stop"):
    subprocess.run(["orc-hook", "claude", event], input=b'{"session_id": "inner", "source": "startup", "prompt": "x"}')
END
  rm -f code
  echo "exec '$ROOT/.venv/bin/python' '$PWD/inner.py'" >calls
  eventually test -s code
  equals "$(sign '.state, .session_id' | paste -sd ' ')" "working outer"
}

@test "0 within its bound while somebody holds the lock for ever" {
  agent
  call '{"prompt": "go"}' claude UserPromptSubmit
  flock "$ORC_HOME/logs/run/signs/s@dev.lock" sleep 30 &
  holder=$!
  eventually sh -c "! flock -n '$ORC_HOME/logs/run/signs/s@dev.lock' true"
  call '{}' claude Stop
  kill "$holder"
  equals "$code:$said" 0:
  contains "$(cat "$ORC_HOME/logs/hook.out")" locked
  equals "$(sign .state)" working
}

# parcel ID TEXT: the broker offers it to the agent
parcel() {
  mkdir -p "$ORC_HOME/logs/run/parcels"
  jq -c --arg id "$1" --arg text "$2" '{pid, pid_start, ids: [$id], text: $text}' \
    "$ORC_HOME/logs/run/signs/s@dev.json" >"$ORC_HOME/logs/run/parcels/s@dev.json"
}

@test "a parcel goes to the conversation that is the agent's, as JSON whatever it holds, and to no agent that is paused" {
  agent
  call '{"session_id": "abc", "prompt": "go"}' claude UserPromptSubmit
  text=$'one "}\\\n{"decision": null}\u2028\x7f'
  parcel ABCDEF "$text"
  call '{"session_id": "of another thread"}' claude Stop
  equals "$code:$said" 0:
  equals "$(sign '.state + (.taken | length | tostring)')" working0
  orc-agent pause dev >/dev/null
  call '{"session_id": "abc", "prompt": "by hand"}' claude UserPromptSubmit
  equals "$code:$said" 0:
  orc-agent resume dev >/dev/null
  call '{"session_id": "abc"}' claude Stop
  equals "$code:$(jq -r .decision <<<"$said")" 0:block
  equals "$(jq -r .reason <<<"$said")" "$text"
  equals "$(sign '.state, .taken[0][0]' | paste -sd ' ')" "working ABCDEF"
  call '{"session_id": "abc"}' claude Stop
  equals "$code:$said:$(sign .state)" 0::idle
}

@test "0 and silence also when it is interrupted" {
  "$ROOT/.venv/bin/python" - >said <<'END'
import fcntl, signal, subprocess, termios
hook = subprocess.Popen(["orc-hook", "claude", "Stop"], stdin=subprocess.PIPE, stderr=subprocess.STDOUT)
hook.stdin.write(b"{")
hook.stdin.flush()
def reads():
    with open(f"/proc/{hook.pid}/stat") as file:
        sleeps = file.read().rpartition(")")[2].split()[0] == "S"
    return sleeps and fcntl.ioctl(hook.stdin, termios.FIONREAD, bytes(4)) == bytes(4)
while hook.poll() is None and not reads():
    pass
hook.send_signal(signal.SIGINT)
print(hook.wait(timeout=10))
END
  equals "$(cat said)" 0
}

# Setting up: in a home of the test's own, with none of the agent CLIs on the PATH.

own_home() {
  export HOME="$BATS_TEST_TMPDIR/me" PATH="$ROOT/bin:/usr/bin:/bin"
  unset CLAUDE_CONFIG_DIR CODEX_HOME GEMINI_CLI_HOME
  mkdir -p "$HOME"
}

@test "64: no verb, no agent CLI, one without hooks, two places, no folder; nothing is written" {
  own_home
  for words in nothing install "install aider" "uninstall cloude" "status --user --project $HOME" \
    "install claude --project $HOME/none" "install claude --nope"; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-hook $words
    one_line "$stderr"
    equals "$output" ""
  done
  equals "$(ls -A "$HOME")" ""
}

@test "install, install again, status, uninstall" {
  own_home
  expect 1 orc-hook status claude codex gemini
  mkdir -p "$HOME/.claude"
  echo '{"model": "opus"}' >"$HOME/.claude/settings.json"
  expect 0 orc-hook install --dry-run claude codex gemini
  contains "$output" "$HOME/.claude/settings.json: hooks for "
  equals "$(cd "$HOME" && find . -type f)" ./.claude/settings.json
  expect 0 orc-hook install claude codex gemini
  contains "$output" "what it was: $HOME/.claude/settings.json.before-orc-hook"
  contains "$output" "codex: start it, and choose to trust the hooks"
  expect 0 orc-hook install claude gemini
  equals "$output" ""
  expect 0 orc-hook status -o cli,scope,installed,permissions,text,version,trusted
  equals "$output" $'claude\tuser\ttrue\ttrue\ttrue\t-\t-\ncodex\tuser\ttrue\ttrue\ttrue\t-\t-\ngemini\tuser\ttrue\ttrue\ttrue\t-\t-'
  equals "$(orc-hook status claude | jq -r '.problems | length')" 0
  command=$(jq -r '.hooks.Stop[0].hooks[0].command' "$HOME/.claude/settings.json")
  run sh -c "$command" <<<'{}'
  equals "$status:$output" 0:
  expect 0 orc-hook uninstall claude codex gemini
  expect 1 orc-hook status
  equals "$(cd "$HOME" && find . -type f)" ./.claude/settings.json
  equals "$(cat "$HOME/.claude/settings.json")" '{"model": "opus"}'
  expect 0 orc-hook uninstall claude codex gemini
  equals "$output" ""
}

@test "for one project, without rule and text" {
  own_home
  mkdir -p "$HOME/a b"
  expect 0 orc-hook install claude codex gemini --project "$HOME/a b" --no-permissions --no-text
  equals "$(cd "$HOME" && find . -type f | sort)" \
    $'./a b/.claude/settings.local.json\n./a b/.codex/hooks.json\n./a b/.gemini/settings.json'
  expect 0 orc-hook status claude --project "$HOME/a b" -o scope,permissions,text
  equals "$output" $'project\tfalse\tfalse'
  expect 1 orc-hook status claude
}

@test "65: a damaged file is left as it is, and so is everything else" {
  own_home
  mkdir -p "$HOME/.claude"
  echo '{"model": ' >"$HOME/.claude/settings.json"
  expect 65 orc-hook install gemini claude
  one_line "$stderr"
  contains "$stderr" "mend it"
  equals "$(cd "$HOME" && find . -type f)" ./.claude/settings.json
  expect 1 orc-hook status claude
  contains "$output" "not plain JSON"
}
