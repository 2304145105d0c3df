"""Counterparts that do not exist: thin programs that speak our wires, written apart from what they try."""
