"""One reader per public data set: its own files -> records."""
