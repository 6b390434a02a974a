"""Packed source data. CREDITS.md lists origins and licences."""
