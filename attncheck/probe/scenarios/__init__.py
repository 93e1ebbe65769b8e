"""One file a probe scenario."""
