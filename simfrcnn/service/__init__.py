"""The doors of a reading room: what runs as a service around one function, study -> result."""
