"""What the services share through Redis and the active atlases."""
