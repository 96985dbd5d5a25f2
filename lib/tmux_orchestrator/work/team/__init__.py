"""The team of agent processes and its supervisor. Begin with `daemon`, then `supervisor`, which owns the loop:

- `roster` says who there is, by the configuration; `muster` is all of them at work, `member` one, `state` what is kept
- running: `processes`, `panes` (by `jobs`); `stopping`; `kin` finds all processes of an agent, `measures` what they
  take, `health` whether they live
- what is due: `restarts`, `occasions` (clock and events); `requests` from other processes
- telling: `output` follows what agents print into `stream`, `holes` gives the space back; `tidings` are the events,
  which `teller` publishes; `tasks` is what it asks of the queue
"""
