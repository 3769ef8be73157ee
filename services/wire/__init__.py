"""What several services read and write on the wire."""
