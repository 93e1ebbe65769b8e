"""With this file here, pytest puts the folder above on the path, so that tests may import `tests.builders`."""
