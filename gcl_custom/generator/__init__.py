"""Generators: the stages that make one ready, and what loads the finished one."""
