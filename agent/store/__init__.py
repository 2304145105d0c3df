"""The local store: the only queue between field and network."""
