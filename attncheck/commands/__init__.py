"""The commands, one a file: options in, the use case called, the report rendered and written."""
