"""Dashboards and rules as code: ``tools/generate_monitoring.py`` writes them to k8s/dashboards and k8s/rules."""
