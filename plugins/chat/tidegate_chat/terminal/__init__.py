"""The chat's client for the terminal."""
