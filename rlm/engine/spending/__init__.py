"""Spending: budget reservations, metering, limits and the stop switch of a run."""
