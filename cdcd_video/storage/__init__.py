"""What the file system is asked for, in one place: small files of strangers, and folders that one process writes."""
