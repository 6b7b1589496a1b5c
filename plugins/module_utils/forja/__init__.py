"""Pure Python behind Forja's modules: readers, planners, renderers. Nothing in here imports Ansible."""
