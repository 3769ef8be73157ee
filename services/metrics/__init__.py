"""The exported series, and the process that adds them up."""
