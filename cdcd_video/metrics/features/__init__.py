"""Feature networks by name: published weights with a known hash, and two small built-in ones."""
