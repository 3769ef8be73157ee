"""One machine's server: its process, control, configuration and files."""
