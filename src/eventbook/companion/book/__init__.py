"""From tables and measurements to the rendered book, in one look."""
