"""Hypothesis may take the time that a busy machine needs: no test of ours asserts a time."""

from hypothesis import HealthCheck, settings

settings.register_profile("forja", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("forja")
