"""Findings from data; never runs a kernel. One file a rule group."""
