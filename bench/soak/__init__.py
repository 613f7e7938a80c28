"""A soak: mixed traffic for as long as asked, with swaps and a night, and a graph of it."""
