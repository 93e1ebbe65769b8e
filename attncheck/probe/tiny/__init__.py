"""Shrinks a config to the smallest model that keeps every attention decision, and builds it."""
