#!/usr/bin/env bats
# orc-agent: see the agents and steer them

load ../helper

demo() { orc-run "$1" --session team --profile demo "${@:2}" -- "$ROOT/.venv/bin/python" "$ROOT/share/demo/agent.py" >/dev/null; }
is() { [ "$(orc-agent list -o name,state | awk -v name="$1" '$1 == name { print $2 }')" = "$2" ]; }
last_event() { tail -n 1 "$ORC_HOME"/logs/events/*.jsonl | jq -r "$1"; }

@test "list: nobody, then a record each" {
  expect 0 orc-agent list
  equals "$output" ""
  orc-run dev --session team --group a --group b -- sleep 1000 >/dev/null
  orc-run pm --session team -- sleep 1000 >/dev/null
  expect 0 orc-agent list
  equals "$(jq -rs 'map(.name) | join(" ")' <<<"$output")" "dev pm"
  equals "$(jq -rs '.[0] | keys_unsorted | join(" ")' <<<"$output")" \
    "name role groups target pane pid profile state since source last_heartbeat question limited_until adopted paused supervisor queued"
  expect 0 orc-agent list -o table
  contains "$output" "NAME  ROLE  TARGET"
  expect 0 orc-agent list -o name,groups,target
  equals "$output" $'dev\ta,b\tteam:0.0\npm\t-\tteam:1.0'
  expect 64 orc-agent list -o stat
  contains "$stderr" "did you mean state"
}

@test "show tells more of one" {
  orc-run dev --session team -- sleep 1000 >/dev/null
  expect 0 orc-agent show dev
  equals "$(jq -c '[.name, .session, .argv]' <<<"$output")" '["dev","team",["sleep","1000"]]'
  expect 64 orc-agent show devv
  equals "$stderr" "orc-agent: no agent is called 'devv' (did you mean dev?): see orc-agent list"
}

@test "idle, working, waiting, answered, gone, restarted, dead" {
  demo dev
  eventually is dev idle
  expect 1 orc-agent answer dev yes
  equals "$stderr" "orc-agent: no dialog is on the screen of dev: nothing was typed"
  tm send-keys -t team:0 '[[slow:60]]' Enter
  eventually is dev working
  expect 124 orc-agent wait dev --until idle --timeout 0.1s
  expect 0 orc-agent interrupt dev
  expect 0 orc-agent wait dev --until idle --timeout 10s
  tm send-keys -t team:0 '[[tool:make]]' Enter
  expect 0 orc-agent wait dev --until waiting --timeout 10s
  contains "$(orc-agent list -o question)" make
  expect 64 orc-agent answer dev maybe
  contains "$stderr" "one of 1, 2, 3, always"
  expect 0 orc-agent answer dev no
  expect 0 orc-agent wait dev --until idle --timeout 10s
  expect 0 orc-agent stop dev
  expect 0 orc-agent wait dev --until gone --timeout 10s
  expect 1 orc-agent stop dev
  expect 69 orc-agent interrupt dev
  expect 69 orc-agent wait dev --until idle --timeout 10s
  expect 0 orc-agent restart dev
  eventually is dev idle
  expect 64 orc-agent restart dev
  contains "$stderr" "--force"
  expect 0 orc-agent restart dev --force
  eventually is dev idle
  kill -9 "$(orc-agent list -o pid)"
  eventually is dev dead
}

@test "peek prints the screen, or its last lines" {
  orc-run dev --session team -- sh -c 'printf "one\ntwo\nthree\n"; sleep 1000' >/dev/null
  shows_three() { [ "$(orc-agent peek dev -n 1)" = three ]; }
  eventually shows_three
  expect 0 orc-agent peek dev
  equals "$output" $'one\ntwo\nthree'
  expect 64 orc-agent peek dev -n x
}

@test "send and broadcast append events, options first, words as they are" {
  orc-run dev --session team -- sleep 1000 >/dev/null
  expect 0 orc-agent send dev - <<<$'from a pipe\n  second line'
  equals "$(last_event .message.content.body)" $'from a pipe\n  second line'
  expect 0 orc-agent send dev --not an option $'#(touch x)\n$(y)'
  equals "$(last_event .id)" "$output"
  equals "$(last_event .message.content.body)" $'--not an option #(touch x)\n$(y)'
  equals "$(last_event '.to.targets[0]')" team:dev
  expect 0 tmux-orc agent send backend-dev:2 "STATUS REQUEST: Please provide current task and progress"
  equals "$(last_event '.to.targets[0]')" backend-dev:2
  expect 0 tmux-orc agent broadcast $'TEAM STATUS UPDATE\nall is well'
  equals "$(last_event '.to.targets[0]')" @all
  expect 0 orc-agent broadcast --session team hello
  equals "$(last_event '.to.targets[0]')" team:dev
  expect 64 orc-agent broadcast --session tean hello
  contains "$stderr" "did you mean team"
  expect 64 orc-agent send nobody hello
  equals "$stderr" "orc-agent: no agent is called 'nobody': see orc-agent list"
  expect 65 orc-agent send dev ''
  equals "$(cat "$ORC_HOME"/logs/events/*.jsonl | wc -l)" 5
}

@test "pause, resume, rename, forget" {
  orc-run dev --session team -- sleep 1000 >/dev/null
  expect 0 orc-agent pause dev
  equals "$(orc-agent list -o paused)" true
  expect 0 orc-agent resume dev
  equals "$(orc-agent list -o paused)" false
  expect 0 orc-agent rename dev lead
  equals "$(orc-agent list -o name)" lead
  expect 64 orc-agent rename lead 'Lead#'
  expect 64 orc-agent forget lead
  contains "$stderr" "stop it first"
  expect 0 orc-agent stop lead --dry-run
  contains "$output" "would end team:lead"
  expect 0 orc-agent stop lead
  expect 0 orc-agent forget lead --dry-run
  equals "$(orc-agent list -o name)" lead
  expect 0 orc-agent forget lead
  equals "$(orc-agent list)" ""
}

@test "adopt takes an agent CLI that was started by hand, and never a shell" {
  mkdir "$BATS_TEST_TMPDIR/bin"
  cp "$(command -v sleep)" "$BATS_TEST_TMPDIR/bin/codex"
  tm new-session -d -s web -n hand -- env PS1='ready$ ' "PATH=$BATS_TEST_TMPDIR/bin:$PATH" sh
  expect 64 orc-agent adopt web:hand
  contains "$stderr" "sh is in the foreground"
  tm send-keys -t web:0 'codex 1000' Enter
  expect 64 orc-agent adopt web:hand -o nonsense
  equals "$(orc-agent list)" ""
  eventually orc-agent adopt web:hand --name dev --role backend -o name
  equals "$(orc-agent list -o name,role,target,profile,adopted)" $'dev\tbackend\tweb:0.0\tcodex\ttrue'
  expect 64 orc-agent adopt web:0 --name again
  expect 64 orc-agent restart dev
  expect 69 orc-agent adopt web:7
  tm send-keys -t web:0 C-c
  eventually is dev gone
  expect 0 orc-agent forget dev
}

@test "two of one name are told apart by their session" {
  orc-run dev --session one -- sleep 1000 >/dev/null
  orc-run dev --session two -- sleep 1000 >/dev/null
  expect 64 orc-agent show dev
  contains "$stderr" "say one:dev or two:dev"
  expect 0 orc-agent show two:dev -o target
  equals "$output" two:0.0
}

@test "actions and options that do not belong together" {
  expect 64 orc-agent
  one_line "$stderr"
  expect 64 orc-agent lst
  contains "$stderr" "did you mean list"
  expect 64 orc-agent stop
  expect 64 orc-agent list dev
  expect 64 orc-agent pause dev --until idle
  equals "$stderr" "orc-agent: pause takes no --until: see --help"
  expect 64 orc-agent show
  equals "$stderr" "orc-agent: too few words: orc-agent show TARGET"
  expect 64 orc-agent answer dev yes no
  equals "$stderr" "orc-agent: too many words: orc-agent answer TARGET CHOICE [--asked ID]"
  expect 64 orc-agent wait dev --until busy
  expect 0 orc-agent --help
  expect 0 orc-agent --version
}

@test "attach shows the pane in a terminal" {
  orc-run dev --session team -- sleep 1000 >/dev/null
  orc-run pm --session team -- sleep 1000 >/dev/null
  tm new-session -d -s person -- env -u TMUX orc-agent attach dev
  # shellcheck disable=SC2016 # tmux expands it
  attached() { tm list-clients -F '#{session_name} #{window_name}' | grep -qx 'team dev'; }
  eventually attached
}

@test "restore: a server that is gone, its sessions and windows made anew; 1 when there is none to bring back" {
  expect 1 orc-agent restore
  orc-run dev --session web -- sleep 1000 >/dev/null
  orc-run pm --session web -- sleep 1000 >/dev/null
  orc-run qa --session shop -- sleep 1000 >/dev/null
  orc-run left --session shop -- sleep 1000 >/dev/null
  orc-agent stop left
  expect 1 orc-agent restore
  equals "$output" ""
  tm kill-server
  ended() { [ -z "$(orc-agent list -o pid | tr -d '\n-')" ]; }
  eventually ended
  expect 0 orc-agent restore --dry-run -o agent,action
  equals "$output" $'web:pm\trespawned\nweb:dev\trespawned\nshop:qa\trespawned'
  expect 0 orc-agent restore web -o agent,action
  equals "$output" $'web:pm\trespawned\nweb:dev\trespawned'
  equals "$(tm list-panes -a -F '#{session_name}:#{window_name}' | sort | tr '\n' ' ')" "web:dev web:pm "
  expect 0 orc-agent restore --all
  equals "$(jq -rs 'map(.agent) | join(" ")' <<<"$output")" "shop:qa shop:left"
  expect 64 orc-agent restore wep
  equals "$stderr" "orc-agent: no agent of a session 'wep' is registered (did you mean web?): see orc-agent list"
  expect 64 orc-agent restore -o nofield
  expect 64 orc-agent list --all
}

@test "restart --fresh; a program that is gone is an error, and nothing that runs is ended" {
  cp "$(command -v sleep)" "$BATS_TEST_TMPDIR/codex"
  orc-run dev --session web -- "$BATS_TEST_TMPDIR/codex" 1000 >/dev/null
  expect 0 orc-agent restart dev --force --fresh
  pid=$(orc-agent show dev -o pid)
  rm "$BATS_TEST_TMPDIR/codex"
  expect 64 orc-agent restart dev --force
  contains "$stderr" "there is no program"
  equals "$(orc-agent show dev -o pid)" "$pid"
  expect 64 orc-agent stop dev --fresh
}
