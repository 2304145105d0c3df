"""The other end: collector, books and what is made from them."""
