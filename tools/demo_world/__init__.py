"""The factory of the demo's bundle: from published packages to models, atlases, vocabularies and images."""
