"""The gateway daemon: polls, tags, stores, forwards and carries out commands.

From the file to the field: `config` reads gateway.toml, `site` makes groups and requests of it,
`schedule` says when they are due, and the worker of each line polls them into the store, from
which the routes take what their entities may see.
"""
