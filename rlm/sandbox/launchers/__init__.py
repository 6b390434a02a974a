"""Launchers: they start worker processes at an isolation level."""
