"""The use case of `bench`: time and memory of the implementations that are right."""
