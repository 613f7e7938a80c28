"""Measurements and the demonstration. Nothing of the service imports this."""
