"""The one entry `portico`; every package brings its own commands."""
