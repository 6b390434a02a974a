"""Packed data with its credits; see CREDITS.md."""
