"""What may be done, by whom: pure rules over signed documents."""
