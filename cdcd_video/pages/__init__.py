"""HTML pages: one style for all of them, and the rendering of templates."""
