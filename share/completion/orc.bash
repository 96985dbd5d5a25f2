# bash completion of these commands; made by `make man`
_orc() {
  local command=${COMP_WORDS[0]##*/} first=1 verbs='' options='' choice=''
  if [ "$command" = tmux-orc ] && [ "$COMP_CWORD" -gt 1 ]; then
    command=orc-${COMP_WORDS[1]} first=2
  fi
  case $command in
    orc-ack) options='--from --help --note --version' ;;
    orc-agent) verbs='adopt answer attach broadcast escalate forget interrupt list pause peek rename restart restore resume send show stop wait' options='--all --asked --dry-run --force --fresh --group --help --lines --name --profile --role --session --timeout --until --version' ;;
    orc-broker) options='--help --once --standby --version' ;;
    orc-component) verbs='clear-queues logs near restart start status stop' options='--dry-run --follow --help --version --yes' ;;
    orc-config) verbs='check get init show' options='--help --json --version' ;;
    orc-doctor) options='--fix --help --json --pm --version' ;;
    orc-heartbeat) options='--agent --counters --every --help --host --status --version' ;;
    orc-hook) verbs='aider claude codex gemini install status uninstall' options='--dry-run --help --no-permissions --no-text --project --then --user --version' ;;
    orc-log) verbs='check path rotate' options='--dry-run --help --json --version' ;;
    orc-monitor) verbs='restart start status stop' options='--help --json --once --version' ;;
    orc-publish) options='--at --category --check-in --context --correlation-id --file --from --group --help --id --in --jsonl --lines --priority --queue --reply-to --requires-ack --subject --supersede --tag --timeout --to --ttl --type --version --wait' ;;
    orc-ratelimit) options='--burst --cost --help --peek --rate --version --wait' ;;
    orc-read) options='--cursor-file --filter --follow --from --group --help --id --json --output --priority --quiet --reverse --session --since --tag --tail --type --unread --until --version' ;;
    orc-recover) options='--all --dry-run --force --fresh --help --reason --version' ;;
    orc-run) options='--group --help --profile --restart --role --session --supervisor --version --window' ;;
    orc-schedule) verbs='add list remove' options='--at --category --check-in --context --correlation-id --cron --every --file --from --group --help --in --name --priority --queue --requires-ack --subject --tag --to --ttl --type --version' ;;
    orc-state) verbs='restart start status stop' options='--follow --help --json --output --version' ;;
    orc-stats) options='--help --json --measure --since --version' ;;
    orc-status) options='--format --help --json --tmux --version --watch' ;;
    orc-task) verbs='cancel check depth done extend fail get limit limits list migrate pause performance prune release repair resume retry run send show slowest start' options='--account --after --at --attempts --correlation-id --dry-run --duration --error --exit --file --final --from --group --help --id --in --jobs --jsonl --lease --older-than --once --output --pid --priority --reason --recipient --status --tail --to --token --ttl --type --until --version --wait' ;;
    orc-team) verbs='bottlenecks events metrics queue restart start status stop' options='--agent --agents --debug --force --help --json --since --tail --version' ;;
    tmux-orc) verbs='ack agent broker config daemon doctor heartbeat hook log monitor monitor publish pubsub ratelimit read recover restart run schedule state stats status task team' options='--help --version' ;;
    orchestrator_manager.sh) verbs='clear-queues doctor logs restart setup start status stop' options='--help --version' ;;
  esac
  case ${COMP_WORDS[COMP_CWORD - 1]} in
    --cursor-file | --file) choice="" ;;
    --agent | --to | --unread | -t) choice="$(orc-agent list -o name 2>/dev/null)" ;;
    --profile) choice="aider claude codex demo gemini plain" ;;
    --priority | -p) choice="critical high normal low" ;;
    --format) choice="json text" ;;
    --supervisor) choice="monitor team none" ;;
    --restart) choice="never crash always" ;;
    *)
      [ "$COMP_CWORD" -ne "$first" ] || choice=$verbs
      [ "$command" != orc-agent ] || [ "$COMP_CWORD" -le "$first" ] || choice="$(orc-agent list -o name 2>/dev/null)"
      choice="$choice $options"
      ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$choice" -- "${COMP_WORDS[COMP_CWORD]}")
}
complete -o default -F _orc orc-ack orc-agent orc-broker orc-component orc-config orc-doctor orc-heartbeat orc-hook orc-log orc-monitor orc-publish orc-ratelimit orc-read orc-recover orc-run orc-schedule orc-state orc-stats orc-status orc-task orc-team tmux-orc orchestrator_manager.sh
