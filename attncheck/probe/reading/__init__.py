"""Reads what one attention call, or one layer, really computes."""
