"""The four services: thin servicers over the library, one Ray Serve application each."""
