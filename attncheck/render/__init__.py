"""Report -> str. One file per format; a module with a `RENDERER` is found by itself."""
