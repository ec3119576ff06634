"""What a provider claims of itself: `manifests/<slug>/config.yaml`, read, checked and watched."""
