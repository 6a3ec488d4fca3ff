"""The site of `make docs`: what MkDocs is told beside mkdocs.yml."""
