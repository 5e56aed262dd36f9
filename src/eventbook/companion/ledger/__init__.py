"""Claims, the values that decide them, and recorded full results."""
