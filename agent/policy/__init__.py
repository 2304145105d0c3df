"""The policy that this gateway holds: how it arrives, is proved, is kept, and is told of."""
