# Nothing for Python: cimported by the generator.
