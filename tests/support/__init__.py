"""What several tests share; the fixtures that hand it out are in tests/conftest.py."""
