"""Model calls: one path for node turns and leaf calls, streaming, prefix warm-up and the answer cache."""
