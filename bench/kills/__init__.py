"""The service, its engine and its trainer, killed at random moments under load: what is lost? Nothing may be."""
