"""What runs and studies left, as pages, tables and plots."""
