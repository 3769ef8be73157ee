"""The activation service: the only place where target models run."""
