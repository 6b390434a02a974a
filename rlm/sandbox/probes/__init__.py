"""Probes: escape attempts and abuses, each a small cell, that test an isolation level on this machine."""
