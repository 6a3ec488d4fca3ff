"""The self-test of the metrics: what each does to true videos that are spoilt more and more."""
