"""The networks that look: by name, from files whose hash is known, and two small ones that come along."""
