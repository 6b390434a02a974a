"""Converters from file formats to text with places, run inside the sandbox. Standard library only; nothing of the package."""
