"""Launchers: start worker processes at an isolation level."""
