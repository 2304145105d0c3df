"""`portico conformance`: does a foreign agent or head-end keep what docs/wire.md promises?"""
