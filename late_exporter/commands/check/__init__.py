"""The command ``check``: check the configuration, the API, the state and the machine."""
