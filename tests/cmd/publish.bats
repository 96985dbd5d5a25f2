#!/usr/bin/env bats
# orc-publish: exit 0 means on disk

load ../helper

events() { cat "$ORC_HOME"/logs/events/*.jsonl 2>/dev/null; }
bodies() { events | jq -r .message.content.body; }
count() { events | wc -l; }
last() { events | tail -n 1 | jq -r "$1"; }

@test "words, standard input, a file, a dash: the message" {
  expect 0 orc-publish two words
  [[ $output =~ ^[0-9A-Z]{26}$ ]]
  equals "$(last .id)" "$output"
  expect 0 orc-publish <<<"from a pipe"
  expect 0 orc-publish - <<<"from a dash"
  echo "from a file" >"$BATS_TEST_TMPDIR/f"
  expect 0 orc-publish --file "$BATS_TEST_TMPDIR/f"
  expect 0 orc-publish --file - <<<"from a named pipe"
  expect 0 orc-publish -- --not-an-option
  equals "$(bodies)" $'two words\nfrom a pipe\nfrom a dash\nfrom a file\nfrom a named pipe\n--not-an-option'
  equals "$stderr" ""
}

@test "the day file is where date says, tail and jq can read it" {
  orc-publish -p high --tag test $'hello\nsecond line' >/dev/null
  equals "$(jq -r .message.content.body "$ORC_HOME/logs/events/$(date +%Y-%m-%d).jsonl")" $'hello\nsecond line'
  equals "$(jq -r .message.priority "$ORC_HOME/logs/today.jsonl")" high
}

@test "nothing is interpreted" {
  # shellcheck disable=SC2016 # that is the point
  local body='$(touch '"$BATS_TEST_TMPDIR"'/canary) `id` \n %s {x}'
  expect 0 orc-publish "$body"
  equals "$(bodies)" "$body"
  [ ! -e "$BATS_TEST_TMPDIR/canary" ]
}

@test "64: unknown option, target, value; nothing is stored" {
  expect 64 orc-publish --taget x y
  contains "$stderr" "unknown option '--taget'"
  one_line "$stderr"
  expect 64 orc-publish -t nobody x
  contains "$stderr" "no agent is called 'nobody'"
  expect 64 orc-publish -p urgent x
  contains "$stderr" "critical, high, normal, low"
  expect 64 orc-publish --wait=later -t x y
  expect 64 orc-publish --file /no/such/file
  expect 64 orc-publish --file "$BATS_TEST_TMPDIR"
  contains "$stderr" "directory"
  equals "$(count)" 0
}

@test "near names help" {
  orc-run backend --session s -- sleep 1000 >/dev/null
  expect 64 orc-publish -t bakend x
  contains "$stderr" "did you mean backend?"
  expect 0 orc-publish -t backend x
  equals "$(last '.to.targets[0]')" s:backend
  expect 0 orc-publish -t later --queue x
  equals "$(last '.to.targets[0]')" later
}

@test "65: empty, not UTF-8, too large, no JSON; one line, nothing is stored" {
  expect 65 orc-publish ""
  equals "$stderr" "orc-publish: the message is empty: give it a body"
  expect 65 orc-publish </dev/null
  expect 65 orc-publish $'\xff'
  contains "$stderr" "not UTF-8"
  expect 65 orc-publish < <(printf '\xc3')
  expect 65 orc-publish < <(head -c 300000 /dev/zero | tr '\0' x)
  contains "$stderr" "256 KiB"
  expect 65 orc-publish < <(head -c 250000 /dev/zero)
  contains "$stderr" "256 KiB"
  expect 65 orc-publish --context '{' x
  expect 65 orc-publish --context '[]' x
  expect 65 orc-publish --id no x
  one_line "$stderr"
  equals "$(count)" 0
}

@test "the largest message is stored whole" {
  expect 0 orc-publish < <(head -c 261000 /dev/zero | tr '\0' x)
  equals "$(bodies | wc -c)" 261001
  [ "$(events | wc -c)" -le 262144 ]
}

@test "74: a disk that cannot be written" {
  orc-publish first >/dev/null
  expect 74 env ORC_HOME=/proc/none orc-publish x
  one_line "$stderr"
  rm -r "$ORC_HOME/logs/events"
  ln -s "$BATS_TEST_TMPDIR" "$ORC_HOME/logs/events/" 2>/dev/null || ln -s /proc/none "$ORC_HOME/logs/events"
  expect 74 orc-publish x
  one_line "$stderr"
}

@test "74: a full disk, the limit of a file's size: nothing is half done, and it goes on when there is room" {
  orc-publish first >/dev/null
  before=$(events | md5sum)
  expect 74 prlimit --fsize="$(($(events | wc -c) + 100))" orc-publish "a message that is longer than the room that is left for it"
  contains "$stderr" "the log did not take the event"
  one_line "$stderr"
  equals "$(events | md5sum)" "$before"
  expect 0 orc-publish second
  equals "$(bodies)" $'first\nsecond'
}

@test "75: somebody holds the lock" {
  orc-publish first >/dev/null
  exec 9>>"$ORC_HOME/logs/run/log.lock"
  flock 9
  expect 75 orc-publish x
  one_line "$stderr"
  flock -u 9
  expect 0 orc-publish x
}

@test "78: the home or the configuration is wrong" {
  expect 78 env -u ORC_HOME HOME=relative CHECKOUT=none ORC_HOME=$'a\nb' orc-publish x
  mkdir -p "$ORC_HOME"
  echo "evnts: {}" >"$ORC_HOME/orchestrator_config.yaml"
  expect 78 orc-publish x
  one_line "$stderr"
}

@test "standard output that is closed, gone or full" {
  expect 0 sh -c 'orc-publish x >&-'
  expect 0 sh -c 'orc-publish x 2>&-'
  expect 64 sh -c 'orc-publish --oops 2>&-'
  equals "$(bodies)" $'x\nx'
  expect 74 sh -c 'orc-publish y >/dev/full'
  one_line "$stderr"
  # shellcheck disable=SC2016 # for the inner shell
  expect 141 bash -c 'seq 20000 | orc-publish --lines | head -n 1 >/dev/null; exit "${PIPESTATUS[1]}"'
  equals "$stderr" ""
  events | jq -es 'map(.seq) == [range(1; length + 1)]' >/dev/null
}

@test "an id of its own is stored once" {
  expect 0 orc-publish --id build-4711 first
  equals "$output" build-4711
  expect 0 orc-publish --id build-4711 again
  equals "$output" build-4711
  equals "$(bodies)" first
}

@test "a stream of lines keeps its order, a bad one is told with its number" {
  expect 65 orc-publish --lines --tag s < <(printf 'one\ntwo\n\n\xff\nthree')
  equals "$(bodies)" $'one\ntwo\nthree'
  equals "$stderr" "orc-publish: line 4: the line is not UTF-8: convert it, with iconv for example"
  equals "$(wc -l <<<"$output")" 3
  expect 0 orc-publish --lines < <(seq 5000)
  equals "$(bodies | tail -n 5000 | md5sum)" "$(seq 5000 | md5sum)"
}

@test "a stream of events: fields of its own stay, ids are stamped or kept" {
  expect 65 orc-publish --jsonl --tag given <<'END'
{"message": {"type": "task", "content": {"body": "a"}}, "mine": [1]}
not json
{"id": "build-0001", "message": {"content": {"body": "b"}}}
{"to": {"targets": ["nobody"]}, "message": {"content": {"body": "c"}}}
END
  equals "$(bodies)" $'a\nb'
  equals "$(wc -l <<<"$stderr")" 2
  contains "$stderr" "orc-publish: line 2: not JSON"
  contains "$stderr" "orc-publish: line 4: no agent is called 'nobody'"
  equals "$(events | jq -c '[.mine, .message.type, .metadata.tags]' | head -n 1)" '[[1],"task",["given"]]'
  expect 0 sh -c 'orc-read | orc-publish --jsonl | sort -u | wc -l'
  equals "$output" 2
}

@test "69: --wait without a broker, and published all the same" {
  orc-run dev --session s -- sleep 1000 >/dev/null
  expect 69 orc-publish -t dev --wait x
  contains "$stderr" "no broker runs"
  equals "$output" "$(last .id)"
  expect 64 orc-publish --wait x
}

@test "modes are private whatever the umask" {
  umask 000
  orc-publish --id private-1 x >/dev/null
  orc-read --unread me >/dev/null
  equals "$(find "$ORC_HOME" ! -type l -perm /077)" ""
}

@test "from cron: no environment, another folder, a zone of its own" {
  cd /
  expect 0 env -i ORC_HOME="$ORC_HOME" TZ=Pacific/Kiritimati "$ROOT/bin/orc-publish" x
  equals "$(ls "$ORC_HOME/logs/events")" "$(date +%Y-%m-%d).jsonl"
  equals "$(last .source.verified)" false
}

@test "what is critical says that no broker runs, and is in the log all the same" {
  expect 0 orc-publish -g management -p critical "fire"
  contains "$stderr" "no broker runs"
  one_line "$stderr"
  equals "$(orc-read --priority critical -o message.content.body)" "fire"
  expect 0 orc-publish -g management -p high "smoke"
  equals "$stderr" ""
  expect 0 orc-publish -p critical "for whoever reads the log"
  equals "$stderr" ""
}
