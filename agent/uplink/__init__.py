"""Routes and the broker: how committed records reach the other end."""
