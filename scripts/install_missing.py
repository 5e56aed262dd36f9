"""Install what a chapter's cells import and this Python lacks; what it has stays, whatever its version.

For machines that bring most of it, such as Colab with its own torch and numpy. Called by the first cell of a
chapter, with the interpreter of its kernel.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path


def wanted() -> dict[str, str]:
    """Requirements of the package and of the extra ``notebooks``, by the name of the distribution."""
    content = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(content)["project"]
    requirements = project["dependencies"] + project["optional-dependencies"]["notebooks"]
    return {re.match(r"[\w.-]+", text).group(): text for text in requirements}  # type: ignore[union-attr]


def main() -> None:
    missing, present = [], []
    for name, requirement in wanted().items():
        try:
            present.append(f"{name}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(requirement)
    if not missing:
        return
    print("installing", ", ".join(missing), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "kept.txt")  # so that a requirement of a requirement replaces nothing either
        kept.write_text("\n".join(present))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", kept, *missing]
        sys.exit(subprocess.run(pip, check=False).returncode)


if __name__ == "__main__":
    main()
