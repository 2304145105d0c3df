"""Measurements of speed and size; the results name machine, date and command."""
