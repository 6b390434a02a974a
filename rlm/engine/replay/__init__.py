"""Resume and replay: recorded answers in their order, and the policy for divergence."""
