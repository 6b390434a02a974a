"""Memory of REPLs: measurement, admission of new REPLs and eviction under pressure."""
