"""Documents: reads files of many formats into text with places."""
