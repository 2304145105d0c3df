"""Devices and counterparts that do not exist, behind real sockets."""
