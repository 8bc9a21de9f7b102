"""Check as the user that will run the exporter."""

from __future__ import annotations

import os
import pwd

from late_exporter.errors import ConfigError
from late_exporter.masking import quote


def become(name: str) -> None:
    """Give up the rights of root for those of another user; raise ConfigError if that is not possible."""
    try:
        user = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise ConfigError(f"--user{quote(name)}: no such user on this machine") from None
    if user.pw_uid == os.geteuid():
        return
    try:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    except PermissionError:
        raise ConfigError(f"--user{quote(name)}: only root can check as another user") from None
