"""Pictures of units: images that drive one, where on an image it is active, how a layer's units lie together."""
