"""Data sets: where they are, how they are checked, and the windows cut from them."""
