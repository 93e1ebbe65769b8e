"""What a config promises: sources, catalog and the oracle. Standard library only."""
