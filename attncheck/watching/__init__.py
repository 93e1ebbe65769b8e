"""What `attncheck run` puts into a process, and `attncheck.watch` into its own: hooks, stand-ins, readings."""
