"""The project's configuration loader: Kedro's own, with the user's credentials in every environment."""

import warnings
from pathlib import Path
from typing import Any

import yaml
from kedro.config import OmegaConfigLoader

from mulcot_rd.credentials import Credentials

# A warning of Kedro's about OmegaConf, which a user of this project can do nothing about.
warnings.filterwarnings("ignore", message=".*register_new_resolver.*")


class ProjectConfigLoader(OmegaConfigLoader):
    """Reads ``conf/local/credentials.yml`` whatever environment a run is started with.

    Kedro reads ``conf/local`` only where no other environment is named; a key kept there would be missing from
    ``kedro run --env workstation``.
    """

    def __getitem__(self, key: str) -> dict[str, Any]:
        """The configuration of that name."""
        # OmegaConf's resolvers are the process's: another loader, made to check names, would leave its globals here.
        self._register_globals_resolver()
        found = super().__getitem__(key)
        if key != "credentials":
            return found
        local = Path(self.conf_source) / "local" / "credentials.yml"
        if self.env not in (None, "local") and local.is_file():
            found = {**found, **(yaml.safe_load(local.read_text(encoding="utf-8")) or {})}
        return {name: Credentials(entry) if isinstance(entry, dict) else entry for name, entry in found.items()}
