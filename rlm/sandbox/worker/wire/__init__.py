"""Wire format between worker and host: frames, and plain values as bytes."""
