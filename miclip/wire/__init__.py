"""Values to proto messages and back, a module a service: for the services, which write answers, and the client."""
