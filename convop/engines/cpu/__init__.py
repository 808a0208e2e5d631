"""The engines of the CPU and the integer tables that they share."""
