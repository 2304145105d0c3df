"""Controls: taking commands, deciding them, carrying them out and putting everything back."""
