"""The gateway daemon: polls, tags, stores, forwards and carries out commands."""
