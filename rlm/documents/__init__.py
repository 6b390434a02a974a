"""Documents: reads files of many formats into text that knows its places."""
