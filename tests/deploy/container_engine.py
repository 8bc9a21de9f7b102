"""Images and containers without a running container engine or an image registry."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from late_exporter import __version__
from tests.deploy.namespaces import Sandbox, remove_cgroups
from tests.e2e.program import wait_until
from tests.support.samples import Samples

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "containers"

(PINNED_BASE,) = re.findall(r"(?m)^FROM (\S+@sha256:[0-9a-f]{64}) ", (ROOT / "Dockerfile").read_text("utf-8"))
BASE = PINNED_BASE.partition("@")[0]
"""Public base image, pinned and as a tag, which a substitute has here."""

IMAGE = f"localhost/late-exporter:{__version__}"
TOOLS = ("buildah", "podman", "runc", "mmdebstrap", "curl", "nsenter", "unshare")

CERTIFICATES = Path("/etc/ssl/certs")
# Trust the CA certificates of this machine, which a package proxy may need.
BUILD_OPTIONS = ("--isolation=chroot", "--pull=never", f"--volume={CERTIFICATES}:{CERTIFICATES}:ro")
DEBIAN = CACHE / "debian"
# Those of the public Python image that the build needs, and those of a machine that boots.
PACKAGES = ("python3", "python3-pip", "ca-certificates", "systemd", "systemd-sysv", "dbus")
EXCLUDED_PATHS = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
# Paths of the public Python image, without the marker that keeps pip from installing packages.
CUSTOMIZE_SCRIPT = """
for name in python python3; do ln -s /usr/bin/python3 "$1/usr/local/bin/$name"; done
ln -s /usr/bin/pip3 "$1/usr/local/bin/pip"
rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED
touch "$1/made"
"""
# Settings of podman and buildah for this machine.
CONFIGURATION = """
[containers]
default_ulimits = [{limits}] # no more than this process has itself

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc" # crun does not work if both cgroup versions are mounted
tmp_dir = "{cache}/run/podman"

[network]
network_config_dir = "{cache}/run/networks"
"""
VOLATILE_FOLDERS = (CACHE / "run", Path("/run/containers"), Path("/run/lock"))
RESOURCE_LIMITS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}


def _configuration() -> str:
    hard_limits = {name: resource.getrlimit(kind)[1] for name, kind in RESOURCE_LIMITS.items()}
    limits = ", ".join(f'"{name}={number}:{number}"' for name, number in hard_limits.items())
    return CONFIGURATION.format(limits=limits, cache=CACHE)


class ContainerEngine:
    """Buildah and podman in a sandbox, as root, with runc and a store below .cache.

    Args:
        sandbox: Sandbox in which they run.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        configuration = CACHE / "containers.conf"
        configuration.write_text(_configuration())
        self.environment = ["env", f"CONTAINERS_CONF={configuration}", "PODMAN_IGNORE_CGROUPSV1_WARNING=1"]
        self.storage = [f"--root={CACHE / 'root'}", f"--runroot={CACHE / 'run'}", "--storage-driver=overlay"]

    def command(self, program: str, *arguments: str | Path) -> list[str]:
        """Return the command line of podman or buildah, to run in the sandbox."""
        return [*self.environment, program, *self.storage, *map(str, arguments)]

    def buildah(self, *arguments: str | Path, check: bool = True) -> str:
        """Run buildah and return its output."""
        return self.sandbox.run(*self.command("buildah", *arguments), check=check).strip()

    def podman(self, *arguments: str | Path, check: bool = True) -> str:
        """Run podman and return its output."""
        return self.sandbox.run(*self.command("podman", *arguments), check=check).strip()

    def build(self, image: str, folder: Path, **arguments: str) -> str:
        """Build an image from the Dockerfile in a folder and return the output."""
        build_args = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        return self.buildah("build", *BUILD_OPTIONS, *build_args, f"--tag={image}", folder)

    def build_image(self) -> str:
        """Build the project's image with ``make image`` and return the output."""
        tool = " ".join(self.command("buildah"))
        options = (*BUILD_OPTIONS, f"--build-context={PINNED_BASE}=container-image://{BASE}")
        command = ("make", f"--directory={ROOT}", "image", f"ENGINE={tool}", f"ARGS={' '.join(options)}")
        return self.sandbox.run(*command)

    def build_debian(self) -> None:
        """Build the root file system of a small Debian, unless it exists."""
        if (DEBIAN / "made").exists():
            return
        self.sandbox.run("rm", "-rf", DEBIAN)
        dpkg_options = ["force-unsafe-io", *(f"path-exclude={path}" for path in EXCLUDED_PATHS)]
        options = ["--variant=minbase", f"--include={','.join(PACKAGES)}", f"--customize-hook={CUSTOMIZE_SCRIPT}"]
        options += [f"--dpkgopt={option}" for option in dpkg_options]
        self.sandbox.run("mmdebstrap", "--quiet", "--mode=root", *options, "trixie", DEBIAN)

    def build_base_image(self) -> None:
        """Build a substitute for the public base image from Debian, unless it exists."""
        if self.buildah("images", "--quiet", BASE, check=False).isalnum():
            return
        container = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", container, DEBIAN, "/")
        self.buildah("config", "--env=PATH=/usr/local/bin:/usr/bin:/bin", "--env=LANG=C.UTF-8", container)
        self.buildah("commit", "--quiet", "--rm", container, BASE)

    def scrape_when_ready(self) -> Samples:
        """Return the metrics of the container of the exporter, after its first complete poll."""
        return self.sandbox.scrape_when_ready(lambda: self.podman("logs", "late-exporter"))


@contextmanager
def run_engine(*, network: bool) -> Iterator[ContainerEngine]:
    """Start an engine in a sandbox; only without its own network can it download packages."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with Sandbox(network=network, volatile=VOLATILE_FOLDERS) as sandbox:
        container_engine = ContainerEngine(sandbox)
        try:
            yield container_engine
        finally:
            container_engine.podman("rm", "--all", "--force", "--time=0")
            container_engine.podman("volume", "prune", "--force")
            container_engine.buildah("rm", "--all")
            container_engine.buildah("rmi", "--prune")
    with suppress(AssertionError):  # cgroups of another podman stay
        wait_until(lambda: remove_cgroups("libpod_parent"), timeout=5)
