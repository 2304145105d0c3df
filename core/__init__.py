"""The nouns of the project and how they are written down; imports nothing of ours."""
