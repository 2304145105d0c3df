"""Modbus: request plan, register values and the link to a server."""
