"""The article: docs/article and its result files -> one self-contained HTML page. Needs a checkout."""
