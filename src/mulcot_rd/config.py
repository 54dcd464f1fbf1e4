"""The project's configuration loader: environments and the command line are merged first, references followed after."""

import re
import warnings
from collections.abc import Iterator, Sequence
from copy import deepcopy
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, cast

import fsspec
from kedro.config import OmegaConfigLoader
from kedro.utils import CLOUD_PROTOCOLS
from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

from mulcot_rd.credentials import Credentials
from mulcot_rd.errors import UserError
from mulcot_rd.files import local_path
from mulcot_rd.messages import nearest
from mulcot_rd.yaml_reader import read_mapping

# A warning of Kedro's about OmegaConf, which a user of this project can do nothing about.
warnings.filterwarnings("ignore", message=".*register_new_resolver.*")

# Parameters that choose among the entries of a group.
CHOICES = {"arch": "architectures", "scale": "scales", "variant": "variants"}
_ARCHIVES = {".gz": "tar", ".tar": "tar", ".tgz": "tar", ".zip": "zip"}
_NOTHING = object()


class ProjectConfigLoader(OmegaConfigLoader):
    """Kedro's loader, with one order for everything: base, then the environment, then the command line.

    Kedro follows the references (``${...}``) of each environment before it merges them, so that a value of an
    environment would reach neither what refers to it in the base nor the catalog. Here they are followed last: a
    parameter holds everywhere, wherever it is set. The catalog knows every parameter as ``${_name}``.

    The environment is the one that is named, else ``conf/local``. Credentials of ``conf/local`` are read in every
    environment, whose own come before them. A ``globals.yml`` with names of parameters still sets them.
    """

    def __getitem__(self, key: str) -> dict[str, Any]:
        """The configuration of that name.

        Raises:
            UserError: If a file is no YAML, the environment does not exist, or two files say the same.
        """
        if key in self or key not in self.config_patterns:
            return super().__getitem__(key)
        if key == "parameters":
            return deepcopy(self._resolved)
        found = {name: value for layer in self.layers(key) for name, value in layer.items()}
        if key == "catalog":
            found |= {f"_{name}": value for name, value in self["parameters"].items()}
            found["_data_root"] = str(local_path(str(found["_data_root"]), "workspaces, ledgers and soft labels"))
            found["_results_root"] = _results_root(str(found["_results_root"]))
            found["_student_run"] = found["_student_run"] or f"{found['_dataset']}/{found['_run']}"
        if key == "credentials":
            return _credentials(found)
        return {name: value for name, value in _plain(OmegaConf.create(found)).items() if not name.startswith("_")}

    @cached_property
    def _resolved(self) -> dict[str, Any]:
        """All parameters, references followed: Kedro and the project ask for them several times a command."""
        return _plain(self.parameters())

    def parameters(self) -> DictConfig:
        """All parameters, merged, with their references."""
        base, *above = self.layers("parameters")
        globals_file = self["globals"]
        # OmegaConf's resolvers are the process's, so they are set anew for this loader.
        for name, values in (("globals", globals_file), ("runtime_params", self.runtime_params)):
            OmegaConf.register_new_resolver(name, partial(_value, OmegaConf.create(values)), replace=True)
        from_globals = {name: value for name, value in globals_file.items() if name in base}
        return _laid_over(OmegaConf.create(base), [from_globals, *above, self.runtime_params])

    def with_params(self, runtime_params: dict[str, Any]) -> "ProjectConfigLoader":
        """The same configuration with other parameters on the command line."""
        return self._other(self.env, runtime_params)

    def _other(self, env: str | None, runtime_params: dict[str, Any]) -> "ProjectConfigLoader":
        return ProjectConfigLoader(
            self.conf_source, env, runtime_params, base_env=self.base_env, default_run_env=self.default_run_env
        )

    def defaults(self) -> dict[str, Any]:
        """The parameters of the base alone, for the architecture, scale, variant and seed that are chosen."""
        chosen, base = self.parameters(), self.layers("parameters")[0]
        same = {name: chosen[name] for name, group in CHOICES.items() if str(chosen[name]) in base[group]}
        return self._other(self.base_env, {**same, "seed": chosen["seed"]})["parameters"]

    def layers(self, key: str) -> list[dict[str, Any]]:
        """What the base and the environment say, in order, with their references."""
        environment = self.env or self.default_run_env
        environments = [self.base_env, *([environment] if environment != self.base_env else [])]
        if key == "credentials" and self.default_run_env not in environments:
            environments.insert(1, self.default_run_env)
        return [self._read(name, key) for name in environments]

    def _read(self, environment: str, key: str) -> dict[str, Any]:
        files, root = self._source()
        folder = f"{root}/{environment}"
        if not files.isdir(folder):
            # The user's own folder is theirs to make.
            if environment == self.default_run_env:
                return {}
            there = sorted(PurePosixPath(name).name for name in files.ls(root, detail=False) if files.isdir(name))
            raise UserError(
                f"there is no environment {environment} in {self.conf_source}; {nearest(environment, there)}"
            )
        found: dict[str, Any] = {}
        said: dict[Any, str] = {}
        for path in sorted(files.find(folder)):
            inside = PurePosixPath(path).relative_to(folder)
            hidden = any(part.startswith(".") for part in inside.parts)
            wanted = any(fnmatchcase(str(inside), pattern) for pattern in self.config_patterns[key])
            if hidden or not wanted or inside.suffix not in (".yml", ".yaml", ".json"):
                continue
            content = _parsed(files.cat_file(path), path, key == "credentials")
            names = [name for name, _ in leaves(content)] if key == "parameters" else [(name,) for name in content]
            for name in names:
                if name in said and not str(name[0]).startswith("_"):
                    raise UserError(f"{said[name]} and {path} both set {'.'.join(map(str, name))}: remove one of them")
                said[name] = path
            found = _merged(found, content)
        return found

    def _source(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """The file system that holds the configuration, a packed one (``kedro package``) too, and its folder there."""
        kind = _ARCHIVES.get(PurePosixPath(self.conf_source).suffix)
        if kind is None:
            files, root = fsspec.core.url_to_fs(self.conf_source)
            if not files.isdir(root):
                raise UserError(
                    f"there is no configuration folder {self.conf_source}: start the command in the project's folder, "
                    "or name the folder with --conf-source"
                )
            return files, root
        files = fsspec.filesystem(kind, fo=self.conf_source)
        return files, files.ls("", detail=False)[-1].rstrip("/")


@lru_cache(maxsize=64)
def _parsed(content: bytes, path: str, secret: bool) -> dict[str, Any]:
    """What a file says; a command reads each many times."""
    return read_mapping(content, path, secret=secret)


def _results_root(address: str) -> str:
    """A folder or an address of a file system, as the catalog takes it.

    Raises:
        UserError: If it is an address from which Kedro would drop the bucket.
    """
    protocol, delimiter, path = address.partition("://")
    if not delimiter:
        return str(Path(address).expanduser())
    if protocol not in CLOUD_PROTOCOLS and not path.startswith("/"):
        raise UserError(
            f"results_root={address}: Kedro takes no bucket from an address of {protocol}, but from those of "
            f"{', '.join(CLOUD_PROTOCOLS)}; Azure's is abfs://CONTAINER/PATH"
        )
    return address


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both mappings; where both have a mapping, those of it."""
    both = {name for name in second if isinstance(first.get(name), dict) and isinstance(second[name], dict)}
    return {**first, **second, **{name: _merged(first[name], second[name]) for name in both}}


def leaves(layer: dict[str, Any], above: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The values of nested mappings with their paths."""
    for name, value in layer.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _laid_over(config: DictConfig, layers: list[dict[str, Any]]) -> DictConfig:
    """Merge the layers into ``config``.

    What is set inside of a reference makes a copy of what it refers to, so it comes after all that is set there.
    """
    values = [leaf for layer in layers for leaf in leaves(layer)]
    for path, value in sorted(values, key=lambda leaf: _references(config, leaf[0])):
        nested = value
        for name in reversed(path):
            nested = {name: nested}
        config.merge_with(nested)
    return config


def _references(config: DictConfig, path: tuple[Any, ...]) -> int:
    """How many references lead to the mapping that holds a value, those that lead to references counted too."""
    return sum(_hops(config, path[:depth]) for depth in range(1, len(path)))


def _hops(config: DictConfig, path: Sequence[Any]) -> int:
    *above, name = path
    group = value_at(config, above)
    if not isinstance(group, DictConfig) or not OmegaConf.is_interpolation(group, name):
        return 0
    next_one = re.fullmatch(r"\$\{([\w.]+)\}", cast(dict[str, Any], OmegaConf.to_container(group))[name])
    return 1 + (_references(config, (*next_one[1].split("."), "")) if next_one else 0)


def value_at(values: Any, path: Sequence[Any]) -> Any:
    """The value at a path of nested mappings, references followed; ``None`` where there is none."""
    for name in path:
        values = values.get(name) if isinstance(values, dict | DictConfig) else None
    return values


def _plain(parameters: DictConfig) -> dict[str, Any]:
    """Parameters without OmegaConf, references followed."""
    return cast(dict[str, Any], OmegaConf.to_container(parameters, resolve=True))


def _value(values: DictConfig, name: str, default: Any = _NOTHING) -> Any:
    """What ``${globals:name,default}`` and ``${runtime_params:name,default}`` stand for."""
    found = OmegaConf.select(values, name, default=default)
    if found is _NOTHING:
        raise UserError(f"the configuration asks for {name}, which is not given: give it with --params {name}=VALUE")
    return found


def _credentials(found: dict[str, Any]) -> dict[str, Any]:
    """Credentials, which may name variables of the environment (``${oc.env:NAME}``) and don't show themselves."""
    OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
    try:
        resolved = _plain(OmegaConf.create(found))
    finally:
        OmegaConf.clear_resolver("oc.env")
    for name, entry in resolved.items():
        if not isinstance(entry, dict | None):
            raise UserError(f"credentials.yml: {name} must be a mapping, such as {name}: {{api_key: ...}}")
    return {name: Credentials(entry or {}) for name, entry in resolved.items()}
