"""The command line: ``miclip --help``."""
