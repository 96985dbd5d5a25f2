#!/usr/bin/env bats
# share/monitors/: recipes over our commands, on real repositories and agents
load ../helper

setup() {
  make_home
  export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_COUNT=2
  export GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=somebody GIT_CONFIG_KEY_1=user.email GIT_CONFIG_VALUE_1=s@example.org
  repository=$BATS_TEST_TMPDIR/a\ repository
  git init -q -b main "$repository"
  cd "$repository" || return
  commit first
  git checkout -q -b work
  compliance=$ROOT/share/monitors/compliance.py
}

commit() { # MESSAGE [FILE TEXT]
  printf '%s\n' "${3-$RANDOM}" >"${2-file}"
  git add -A
  git commit -q -m "$1"
}
# A demo agent whose folder is the repository
agent() { orc-run "$1" --session web --profile demo -- "$ROOT/.venv/bin/python" "$ROOT/share/demo/agent.py" --name "$1" >/dev/null; }
state() { [ "$(orc-agent show "$1" -o state)" = "$2" ]; }
violations() { orc-read --type violation -o "${1-message.content.context.rule}"; }
only() { # RULE...: a rules file with these alone
  "$ROOT/.venv/bin/python" -c '
import sys, yaml
rules = yaml.safe_load(open(sys.argv[1]))["rules"]
print(yaml.safe_dump({"rules": [rule for rule in rules if rule["rule"] in sys.argv[2:]]}))
' "$ROOT/share/monitors/compliance.yaml" "$@" >"$BATS_TEST_TMPDIR/rules.yaml"
  rules=(--rules "$BATS_TEST_TMPDIR/rules.yaml")
}

@test "compliance: a commit straight to main is published once; merges and other branches are well" {
  only straight-to-main
  agent dev
  git checkout -q main
  commit 'GIT: $(touch canary) "quoted"'
  straight=$(git rev-parse HEAD)
  git checkout -q work
  commit "on a branch" another
  git checkout -q main
  git merge -q --no-ff -m "merged" work
  for _ in 1 2; do
    expect 0 "$compliance" "${rules[@]}"
    equals "$output$stderr" ""
  done
  first=$(git rev-list --max-parents=0 HEAD)
  equals "$(violations message.content.context.commit | sort)" "$(printf '%s\n' "$first" "$straight" | sort)"
  equals "$(violations message.content.context.agent,message.content.context.session,message.content.context.severity,message.priority | sort -u)" $'web:dev\tweb\thigh\thigh'
  contains "$(violations message.content.body)" "straight to main: GIT: \$(touch canary) \"quoted\""
}

@test "compliance: a secret in a diff, by whom, and never what it is" {
  only secret-in-diff
  agent dev
  agent qa
  secret=ghp_$(printf 'a%.0s' {1..40})
  commit "settings" settings.ini "token = $secret"
  GIT_AUTHOR_NAME=QA commit "a key" key.pem "-----BEGIN OPENSSH PRIVATE KEY-----"
  commit "gone again" settings.ini "token = none"
  expect 0 "$compliance" "${rules[@]}" --dry-run
  equals "$(jq -r .context.agent <<<"$output" | sort)" $'null\nweb:qa'
  [ ! -e "$ORC_HOME/logs/events" ]
  expect 0 "$compliance" "${rules[@]}"
  equals "$(violations message.content.body | cut -d, -f 1 | sort)" $'what looks like a secret in key.pem\nwhat looks like a secret in settings.ini'
  equals "$(violations message.content.context.severity | sort -u)" critical
  run ! grep -rq "$secret" "$ORC_HOME"
}

@test "compliance: nothing that a repository names is run, whatever it is called" {
  agent dev
  canary=$BATS_TEST_TMPDIR/canary
  printf '#!/bin/sh\ntouch "%s"\ncat\n' "$canary" >"$BATS_TEST_TMPDIR/evil"
  chmod +x "$BATS_TEST_TMPDIR/evil"
  git checkout -q main
  mkdir -p .git/info
  echo '* diff=evil filter=evil' >.git/info/attributes
  commit '-n; touch "$0" `touch canary` %n {} \' $'new\nline" +++ b.txt' "++ b/secret = 'hunter2hunter2hunter2'"
  signature='gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----'
  signed=$(git cat-file commit HEAD | sed "/^committer/a $signature" | git hash-object -t commit -w --stdin)
  git update-ref refs/heads/main "$signed"
  git branch -- 'x;touch${IFS}canary;#'
  git checkout -q work
  for name in diff.external diff.evil.textconv diff.evil.command filter.evil.clean filter.evil.smudge core.fsmonitor \
    core.pager core.editor gpg.program core.sshCommand; do
    git config "$name" "$BATS_TEST_TMPDIR/evil"
  done
  git config log.showSignature true
  git config core.hooksPath "$BATS_TEST_TMPDIR"
  git config diff.noprefix true
  expect 0 "$compliance"
  equals "$stderr" ""
  contains "$(violations message.content.body)" 'straight to main: -n; touch "$0" `touch canary` %n {} \'
  contains "$(violations)" secret-in-diff
  [ ! -e "$canary" ]
  equals "$(find . -name 'canary*')" ""
}

@test "compliance: no commit while an agent works" {
  only no-commit
  sed -i 's/after: 1h/after: 1s/' "$BATS_TEST_TMPDIR/rules.yaml"
  agent dev
  eventually state dev idle
  expect 0 "$compliance" "${rules[@]}"
  equals "$(violations)" ""
  orc-component start broker >/dev/null
  orc-publish -t dev --wait=typed '[[slow:1000]] build it' >/dev/null
  eventually state dev working
  looked() { "$compliance" "${rules[@]}" && [ -n "$(violations)" ]; }
  eventually looked
  expect 0 "$compliance" "${rules[@]}"
  equals "$(violations message.content.context.agent,message.content.context.commit,message.priority)" "web:dev"$'\t'"$(git rev-parse HEAD)"$'\tnormal'
  commit "at last"
  again() { looked && [ "$(violations | wc -l)" = 2 ]; }
  eventually again
}

@test "compliance: what an agent says, and what it was told" {
  agent dev
  orc-publish --from web:dev "I used git push --no-verify" >/dev/null
  orc-publish "never use git push --no-verify" >/dev/null
  only checks-skipped
  expect 0 "$compliance" "${rules[@]}"
  expect 0 "$compliance" "${rules[@]}"
  equals "$(violations message.content.context.agent,message.content.body)" $'web:dev\tsaid: I used git push --no-verify'
}

@test "compliance: wrong rules and words are one line" {
  for text in '{' 'rules: [{rule: A B}]' 'rules: [{rule: a, check: b, severity: high}]' 'rules: [{rule: a, check: diff, severity: high, patterns: ["("]}]' \
    'rules: [{rule: a, check: quiet, severity: high, after: soon}]' '[]' 'rules: 3'; do
    echo "$text" >"$BATS_TEST_TMPDIR/rules.yaml"
    expect 78 "$compliance" --rules "$BATS_TEST_TMPDIR/rules.yaml"
    one_line "$stderr"
  done
  expect 64 "$compliance" --every often
  expect 64 "$compliance" extra
  expect 78 "$compliance" --since long
  one_line "$stderr"
}

@test "compliance --every: again and again; the state updater counts it and tells it once" {
  only secret-in-diff
  agent dev
  orc-state start >/dev/null
  "$compliance" "${rules[@]}" --every 1s 3>&- &
  child=$!
  commit "a key" key.pem "-----BEGIN PRIVATE KEY-----"
  told() { [ "$(orc-read --type notification -o message.priority,message.content.context.rule)" = $'critical\tsecret-in-diff' ]; }
  eventually told
  kill "$child"
  counted() { [ "$(jq -r '.agents.dev.violations' "$ORC_HOME/registry/sessions/web.json")" = 1 ]; }
  eventually counted # it tells before it keeps
}

credit() { orc-state show web | jq -r '.agents.dev.credit | [.exhausted, .until, .used_percent] | join(" ")'; }
credit_is() { "$ROOT/share/monitors/credits.py" && [ "$(credit)" = "$1" ]; }
told() { orc-read --type "$1" -o id | wc -l; }

@test "credits: a limit is told once, and its end, as the screen shows them" {
  agent dev
  eventually state dev idle
  orc-component start broker >/dev/null
  orc-publish -t dev '[[limit]]' >/dev/null
  eventually state dev limited
  for _ in 1 2 3; do expect 0 "$ROOT/share/monitors/credits.py"; done # nobody keeps what was told
  equals "$(told credit_exhausted)" 1
  until=$(orc-agent show dev -o limited_until)
  equals "$(orc-read --type credit_exhausted -o message.content.body)" "web:dev has no credit left until $until"
  orc-state start >/dev/null
  eventually credit_is "true $until 0"
  equals "$(told credit_exhausted) $(orc-read --type notification -o message.content.context.rule)" "1 credit_exhausted"
  tm send-keys -t web: 'go on' Enter
  eventually state dev idle
  eventually credit_is "false  0"
  equals "$(told credit_exhausted) $(told status_update)" "1 1"
  equals "$(orc-state show web | jq -r .agents.dev.status)" idle
}

@test "credits: what the agent's status line reported" {
  agent dev
  eventually state dev idle
  orc-state start >/dev/null
  mkdir -p "$ORC_HOME/logs/run/signs"
  sign() { # PERCENT RESETS [PID]
    printf '{"pid": %s, "usage": {"five_hour": {"used_percent": %s, "resets": %s}, "odd": 3}}' "${3-$(orc-agent show dev -o pid)}" "$1" "$2" \
      >"$ORC_HOME/logs/run/signs/web@dev.json"
  }
  sign 91.5 '"2099-01-01T00:00:00Z"' 1
  expect 0 "$ROOT/share/monitors/credits.py"
  equals "$(told status_update)" 0
  echo garbage >"$ORC_HOME/logs/run/signs/web@dev.json"
  expect 0 "$ROOT/share/monitors/credits.py"
  sign 91.5 '"2099-01-01T00:00:00Z"'
  sed -i 's/, "odd": 3//' "$ORC_HOME/logs/run/signs/web@dev.json"
  eventually credit_is "false  92"
  expect 0 "$ROOT/share/monitors/credits.py"
  equals "$(orc-read --type status_update -o message.content.body)" "web:dev has used 92 % of five_hour, which begins anew 2099-01-01T00:00:00Z"
  sign 100 '"2099-01-01T00:00:00Z"'
  eventually credit_is "true 2099-01-01T00:00:00Z 100"
  sign 100 '"2020-01-01T00:00:00Z"'
  eventually credit_is "false  100"
  equals "$(told credit_exhausted) $(told status_update)" "1 2"
  expect 64 "$ROOT/share/monitors/credits.py" --warn much
  one_line "$stderr"
}
