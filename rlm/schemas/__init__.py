"""JSON schemas: checked against limits, compiled to validators, shown to models, and read from their answers. Pure."""
