"""Settings of the Kedro project."""

from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.hooks import ProjectHooks
from mulcot_rd.lineage import Lineage
from mulcot_rd.run_lock import RunLock
from mulcot_rd.tracking import Tracking

# The last one is called first: checks come before the lock, which comes before what is tracked.
HOOKS = (Tracking(), RunLock(), ProjectHooks(), Lineage())
CONFIG_LOADER_CLASS = ProjectConfigLoader
CONFIG_LOADER_ARGS = {"base_env": "base", "default_run_env": "local"}
