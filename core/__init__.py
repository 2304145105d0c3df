"""The nouns of Portico and how they are written down.  Imports nothing of ours; pure."""
