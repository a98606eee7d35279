"""The paper's printed numbers, and everything that lays our runs beside them."""
