"""Agents and their base classes, reward models, and the loading of agent recipes and plug-ins."""
