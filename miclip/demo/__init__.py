"""The demo world: real, openly licensed data and small models that ship with the project."""
