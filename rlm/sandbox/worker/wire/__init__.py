"""Wire format of a worker: frames and plain values as bytes."""
