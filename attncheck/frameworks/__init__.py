"""Who chooses the implementation and which setting changes it: one file a framework."""
