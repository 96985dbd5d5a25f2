"""Teams of coding agents in tmux: one event log, small commands, a broker that types safely."""

__version__ = "0.1.0"
