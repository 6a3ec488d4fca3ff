"""The only place that changes weights: steps, averages, checkpoints, logs. It never knows what a code or a mask is."""
