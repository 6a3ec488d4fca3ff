"""File access: small untrusted files, and folders that only one process writes."""
