"""The tests: a mirror of scardface/, a test module for every module."""
