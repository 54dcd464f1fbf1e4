"""Settings of the Kedro project."""

from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.hooks import ProjectHooks
from mulcot_rd.lineage import Lineage
from mulcot_rd.run_lock import RunLock

# The last one is called first: checks come before the lock.
HOOKS = (RunLock(), ProjectHooks(), Lineage())
CONFIG_LOADER_CLASS = ProjectConfigLoader
CONFIG_LOADER_ARGS = {"base_env": "base", "default_run_env": "local"}
