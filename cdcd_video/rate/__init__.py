"""Human evaluation: a blind rating page (`serve`), and an analysis of the answers (`report`)."""
